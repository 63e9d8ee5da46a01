"""Learning from answers that are each said to be wanted or not, without pairs: Kahneman-Tversky optimisation.

Let d be the log-probability of an answer's tokens under the policy, less that under the reference, and z an estimate of
how far the policy has gone from it. A wanted answer costs w_d (1 - sigmoid(beta (d - z))), an unwanted one
w_u (1 - sigmoid(beta (z - d))): equation 7 of Ethayarajh et al., arXiv 2402.01306.

z is the mean of d over prompts beside the answers of other rows, at least 0, and no gradient flows through it. TRL
takes it over the rows that one device has at a time, so that its numbers change with the number of devices and of
parts. Here it is one number a step, over all of its rows, and one over all that was held out: each prompt with the
answer of the row before it in the order of the stage, which is a function of the plan alone. The two may happen to have
the same prompt, as rarely as an order by hash brings such rows together; TRL does not look at that either.

Not here: the reference and what rows have to be like, which is as in `answers`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from lake.errors import UsageError
from trainers import answers, batches
from trainers.loop import Job, Make, loader
from trainers.order import Places
from trainers.plan import Laid
from trainers.shards import Field, Shards
from trainers.spec import Preference

COMPLETION, LABEL = "completion", "label"

Batch = dict[str, Any]


class Unpaired(answers.AsTheyAre, KTOTrainer):
    """TRL's trainer, fed from a plan, with an estimate of the divergence that a whole step shares."""

    divergence: torch.Tensor

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Batch], Any]:
        """The micro-batches of a step, and what the reference says of them."""
        parts, items = super().get_batch_samples(*args, **kwargs)
        return self._referred(parts), items

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """The same, with one estimate over all that was held out."""
        return super().evaluation_loop(loader(self._referred(list(dataloader))), *args, **kwargs)

    def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        """The loss of a micro-batch; of a batch on its own where it belongs to no step."""
        if "ref_logps" not in inputs:
            [inputs] = self._referred([inputs])
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[no-untyped-call]

    def _referred(self, parts: list[Batch]) -> list[Batch]:
        """The same with the reference's log-probabilities, once `divergence` is that of all of them together."""
        apart, referred = [], []
        for part in map(self._prepare_inputs, parts):
            with torch.no_grad(), self.compute_loss_context_manager():
                own, other = self.compute_ref_log_probs(self.ref_model or self.model, part)  # type: ignore[no-untyped-call]
                moved = super()._compute_kl_logps(self.model, part) - other  # type: ignore[no-untyped-call]
            apart.append(moved)
            kept = {name: tensor for name, tensor in part.items() if not name.startswith("KL_")}
            referred.append({**kept, "ref_logps": own, "ref_KL_logps": torch.zeros_like(own)})
        self.divergence = torch.cat(apart).mean()
        return referred

    def _compute_kl_logps(self, *_: Any) -> torch.Tensor:
        """What TRL takes the reference's from, which is 0: `divergence` is the difference already.

        TRL then takes the mean over all processes, each of which has as many rows.
        """
        return self.divergence


def trainer(job: Job) -> transformers.Trainer:
    """A trainer of `kto`, ready to train. Raises LakeError where rows and model do not fit each other."""
    policy = answers.load_policy(job)
    answers.refuse_unfit(job, policy, (COMPLETION,))
    for shards in job.splits:
        if shards.description.rows < 2:
            raise UsageError(f"{shards.folder}: kto sets prompts beside the answers of others: it needs two rows", None)
    held_out = answers.held_out(job, (COMPLETION,), labelled)
    refuse_long(policy, job.shards, job.plan.stages)
    if job.validation is not None and held_out is not None:
        refuse_long(policy, job.validation, [held_out.laid])
    settings = job.spec.preference or Preference()
    said = answers.arguments_of(job)
    # TRL refuses one row a device, whose own estimate would be of no use. Nothing here depends on this number.
    said["per_device_train_batch_size"] = max(2, said["per_device_train_batch_size"])
    made = Unpaired(
        policy,
        ref_model=answers.reference(job, policy),
        args=KTOConfig(
            **said,
            router_aux_loss_coef=0.0,
            beta=settings.beta,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
        ),
        train_dataset=answers.placeholder(),
        eval_dataset=held_out,
        processing_class=job.tokenizer,
        job=job,
        make=labelled(job.shards, job.pad),
    )
    made.precompute_ref_logps = True
    answers.without_second_adapter(made.model)
    return made


def refuse_long(model: Any, shards: Shards, stages: Iterable[Laid]) -> None:
    """Raises UsageError where a prompt and the answer of the row before are longer than the model has positions."""
    room = getattr(model.config, "max_position_embeddings", None)
    if room is None:
        return
    prompts, completions = (shards.fields[name].lengths for name in (answers.PROMPT, COMPLETION))
    for laid in stages:
        longest = int((prompts[laid.document] + completions[np.roll(laid.document, 1)]).max())
        if longest > room:
            raise UsageError(
                f"{shards.folder}: a prompt and the answer to another row's have {longest} tokens together, more "
                f"than the {room} positions of the model",
                f"say longest = {room // 2} and an overlong policy in [data]",
            )


def labelled(shards: Shards, pad: int) -> Make:
    """What makes arrays of the rows of a stage, int64 of shape (rows, longest), and `label`, bool of shape (rows,).

    `input_ids`, `attention_mask` and `completion_mask`; the same with `KL_` before are of the prompts with the answers
    of the rows before them. Raises UsageError where a row has no label.
    """
    column = shards.rows([LABEL]).column(LABEL).to_pylist()
    if not all(isinstance(label, bool) for label in column):
        raise UsageError(f"{shards.folder}: a row has no label that is true or false", "build the shards again")
    return partial(_labelled, shards, np.array(column, np.bool_), pad)


def _labelled(shards: Shards, labels: npt.NDArray[np.bool_], pad: int, laid: Laid, rows: Places) -> dict[str, Any]:
    own, other = laid.document[rows], laid.document[(rows - 1) % laid.count]
    prompt, completion = shards.fields[answers.PROMPT], shards.fields[COMPLETION]
    matched = answers.masked(batches.padded(own, (prompt, completion), pad))
    beside = batches.padded(np.arange(len(rows)), (_Picked(prompt, own), _Picked(completion, other)), pad)
    apart = {f"KL_{name}": array for name, array in answers.masked(beside).items()}
    return {**matched, **apart, "label": labels[own]}


@dataclass(frozen=True)
class _Picked:
    """Some rows of a field, numbered as they are picked."""

    field: Field
    places: Places

    def row(self, number: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        return self.field.row(int(self.places[number]))
