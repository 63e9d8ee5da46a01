"""Learning from pairs of answers of which one was preferred: DPO and IPO.

Let d be the log-probability of an answer's tokens under the policy, less that under the reference, and n their number.
`dpo` minimises -log sigmoid(beta (d_chosen - d_rejected)), equation 7 of Rafailov et al., arXiv 2305.18290. `ipo`
minimises (d_chosen / n_chosen - d_rejected / n_rejected - 1 / (2 beta))^2, equation 17 of Azar et al., arXiv
2310.12036, with beta for its tau and the mean over tokens for their sum, which is how TRL has it.

Not here: the reference and what rows have to be like (`answers`), how pairs come about (`build`), and answers that come
without another (`kto`).
"""

import transformers
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from trainers import answers
from trainers.loop import Job, Make
from trainers.shards import Shards
from trainers.spec import Preference

# TRL's names. Its `ipo` is normalised by length, as the docstring above has it.
LOSSES = {"dpo": "sigmoid", "ipo": "ipo"}


class Pairwise(answers.AsTheyAre, DPOTrainer):
    """TRL's trainer, fed from a plan."""


def trainer(job: Job) -> transformers.Trainer:
    """A trainer of `dpo` or `ipo`, ready to train. Raises LakeError where rows and model do not fit each other."""
    policy = answers.load_policy(job)
    answers.refuse_unfit(job, policy, answers.PAIR)
    settings = job.spec.preference or Preference()
    made = Pairwise(
        policy,
        ref_model=answers.reference(job, policy),
        args=DPOConfig(
            **answers.arguments_of(job),
            loss_type=[LOSSES[job.spec.method]],
            beta=settings.beta,
            # A mixture's own loss, which would differ from part to part, is no part of the method.
            router_aux_loss_coef=0.0,
        ),
        train_dataset=answers.placeholder(),
        eval_dataset=answers.held_out(job, answers.PAIR, compared),
        processing_class=job.tokenizer,
        job=job,
        make=compared(job.shards, job.pad),
    )
    answers.without_second_adapter(made.model)
    return made


def compared(shards: Shards, pad: int) -> Make:
    """What makes arrays of the rows of a stage: those of `paired`, masked."""
    return lambda laid, rows: answers.masked(answers.paired(shards, pad, laid, rows))
