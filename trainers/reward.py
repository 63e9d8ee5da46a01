"""A model that says how good an answer is, learned from pairs of which one was preferred.

It is a language model with one output, read at the last token of an answer. A pair costs
-log sigmoid(r_chosen - r_rejected) (Bradley and Terry, Biometrika 39, 1952), as in Ouyang et al., arXiv 2203.02155.
Only differences matter to that, so `preference.center` c > 0 adds c (r_chosen + r_rejected)^2, which keeps rewards
around 0 (Eisenstein et al., arXiv 2312.09244).

transformers looks for the last token by the padding id: where an answer ended with that very id, its end would be taken
for padding and the reward read a token too early. Such a tokenizer is refused.

Not here: the rows, which are those of `answers`.
"""

from typing import Any

import numpy as np
import transformers
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from lake.errors import UsageError
from trainers import answers
from trainers.batches import Array
from trainers.loading import load, refuse_foreign_ids
from trainers.loop import Job, Make
from trainers.order import Places
from trainers.plan import Laid
from trainers.shards import Shards
from trainers.spec import Preference


class Scored(answers.AsTheyAre, RewardTrainer):
    """TRL's trainer, fed from a plan."""


def trainer(job: Job) -> transformers.Trainer:
    """A trainer of a reward model, ready to train. Raises LakeError where rows and model do not fit each other."""
    spec = job.spec
    # The output is new, and drawn when the model is loaded.
    transformers.set_seed(spec.seed)
    model: Any = load(
        transformers.AutoModelForSequenceClassification,
        spec.model,
        seed=spec.seed,
        frozen=spec.lora is not None,
        num_labels=1,
    )
    refuse_foreign_ids(job.splits, model)
    answers.refuse_unfit(job, model, answers.PAIR)
    refuse_padding(job)
    settings = spec.preference or Preference()
    return Scored(
        answers.adapted(job, model),
        args=RewardConfig(**answers.arguments_of(job), center_rewards_coefficient=settings.center or None),
        train_dataset=answers.placeholder(),
        eval_dataset=answers.held_out(job, answers.PAIR, whole),
        processing_class=job.tokenizer,
        job=job,
        make=whole(job.shards, job.pad),
    )


def whole(shards: Shards, pad: int) -> Make:
    """What makes arrays of the rows of a stage: those of `answers.paired`, without labels."""

    def made(laid: Laid, rows: Places) -> dict[str, Array]:
        both = answers.paired(shards, pad, laid, rows)
        return {name: both[name] for name in ("input_ids", "attention_mask")}

    return made


def refuse_padding(job: Job) -> None:
    """Raises UsageError where an answer ends with the id that fills up rows."""
    for shards in job.splits:
        for field in (shards.fields[name] for name in answers.PAIR):
            if np.any(field.tokens[field.offsets[1:] - 1] == job.pad):
                raise UsageError(
                    f"{shards.folder}: answers end with the token {job.pad}, which also fills up rows, and a reward is "
                    "read at the last token that does not",
                    "give the tokenizer a padding token of its own (pad_token in tokenizer_config.json)",
                )
