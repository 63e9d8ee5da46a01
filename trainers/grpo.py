"""Learning from rewards: a policy answers tasks several times over, tests reward the answers, the better ones gain.

GRPO is that of Shao et al., DeepSeekMath, arXiv 2402.03300; the loss and all of its variants are TRL's. What is ours:

* Prompts come in the order of the plan, as the ids that the shards hold. A step takes `rows` of them. Answers that are
  drawn at once are spread over some steps and used several times, together a *round*; a round takes the prompts of its
  steps at its first one, so that its steps and its rows are those of the ledger whatever the settings.
* Each answer is drawn with a seed of its own: (run's seed + step * 1000003) mod 2^31, plus its place among the answers
  of its round. So what is drawn depends neither on how many processes draw nor on what was drawn before (`drawing`).
* A checkpoint is the state between two rounds; from within one, a run could not go on as if it had never stopped.
* The reference, where `beta` asks for one, is the policy as it was before the first step, never one loaded by name.
* Every answer is in `rollouts.jsonl` before it is learned from.

Not here: what an answer is worth (`rewards`), and what is kept of it (`rollouts`).
"""

import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, IterableDataset
from trl.models.utils import prepare_fsdp
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from ingest.scorers.report import Trial
from lake.errors import UsageError
from trainers import record
from trainers.answers import AsTheyAre, load_policy, placeholder, reference
from trainers.drawing import Draw, drawing, seed_of
from trainers.loop import Job, arguments
from trainers.prompts import PROMPT, HeldOut, Prompts, Sample
from trainers.rewards import RewardByTests
from trainers.rollouts import Rollout, Rollouts, Scorer, figures
from trainers.spec import Grpo

BY_ANSWER = ("grpo", "dr_grpo", "sapo")  # losses that are means over answers; the others are means over tokens


def trainer(job: Job) -> transformers.Trainer:
    """A trainer of `grpo`, ready to train. Raises LakeError where tasks, model and settings do not fit each other."""
    # TRL asks a model for a property under its old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    said = job.spec.grpo or Grpo()
    refuse_partial_rounds(job, said)
    refuse_what_depends_on_processes(job, said)
    reward = RewardByTests(said)
    told = [Prompts(shards) for shards in job.splits]
    for prompts in told:
        reward.refuse_untested(prompts.tasks.to_pylist())
    policy = load_policy(job)
    refuse_long(told, said, policy)
    answers = job.spec.stages[0].rows * said.iterations * said.generations
    made = Policy(
        policy,
        reward_funcs=[reward],
        args=GRPOConfig(
            **arguments(
                job,
                per_device_train_batch_size=answers // job.spec.optimizer.parts,
                steps_per_generation=said.steps_per_generation * job.parts,
                num_iterations=said.iterations,
                num_generations=said.generations,
                max_completion_length=said.max_new_tokens,
                temperature=said.temperature,
                loss_type=said.loss,
                # What TRL clips at by default is meant for ratios less 1; CISPO's bound is one of ratios.
                epsilon_high=5.0 if said.loss == "cispo" else None,
                beta=0.0,  # or TRL would load a reference by the name in the model's config
                router_aux_loss_coef=0.0,
                disable_dropout=True,
                shuffle_dataset=False,
                per_device_eval_batch_size=job.spec.evaluation.rows * said.generations,
            )
        ),
        train_dataset=placeholder(),
        eval_dataset=HeldOut(told[1], job.spec.evaluation.rows, said.generations) if told[1:] else None,
        processing_class=job.tokenizer,
        job=job,
        make=None,
        prompts=told[0],
        reward=reward,
    )
    if made.is_fsdp_enabled:
        raise UsageError(
            "grpo draws answers with the whole model, and its weights are shared out (FSDP)",
            "start it with torchrun, or on one device",
        )
    if said.beta:
        made.hold_to(reference(job, policy), said.beta)
    return made


class Policy(AsTheyAre, GRPOTrainer):
    """TRL's trainer, with prompts, seeds and a record of answers from the run."""

    def __init__(self, *args: Any, prompts: Prompts, reward: RewardByTests, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said = self.job.spec.grpo or Grpo()
        self.prompts, self.reward = prompts, reward
        self.rollouts: Rollouts | None = None  # the process that writes them has it
        self.seeds: list[int] = []
        self.tokens = 0  # in the answers that were drawn last
        self.add_callback(_Begins(self))

    def hold_to(self, model: Any, beta: float) -> None:
        """Take this model for the reference; None stands for the policy without its adapters."""
        self.beta = beta
        if model is not None:
            model.requires_grad_(False).eval()
            ours: Any = self.accelerator
            prepared: Any = (
                prepare_fsdp(model, ours) if self.is_fsdp_enabled else ours.prepare_model(model, evaluation_mode=True)
            )
            self.ref_model = prepared

    def get_train_dataloader(self) -> "DataLoader[Any]":
        """The samples of this process at the first micro-batch of each round, from the step on that was reached."""
        return DataLoader(_Rounds(self), batch_size=None, num_workers=0, generator=torch.Generator())

    def samples(self, step: int) -> list[Sample]:
        """What this process answers in the round that begins at a step: each prompt as often as it is answered.

        Together the processes have all of them, one after the other, as the plan has the rows.
        """
        job, said = self.job, self.said
        laid = job.plan.stage_at(step)
        rows = np.concatenate([job.plan.rows(step + more) for more in range(said.steps_of_round)])
        each = len(rows) * said.generations // job.processes
        places = np.arange(job.rank * each, (job.rank + 1) * each)
        return self.prompts.samples(laid.document[rows[places // said.generations]], places)

    def weight(self, inputs: list[Sample]) -> int:
        """Over how much the loss of answers is a mean: over them or, as the loss has it, over their tokens."""
        return len(inputs) if self.said.loss in BY_ANSWER else self.tokens

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _generate_and_score_completions(self, inputs: list[Sample]) -> dict[str, Any]:
        base = seed_of(self.args.seed, self.state.global_step)
        self.seeds = [base + one["place"] for one in inputs]
        scored = super()._generate_and_score_completions(inputs)
        self.tokens = int(scored["num_items_in_batch"])
        # TRL shuffles answers among the parts of a step next: the same way in a run that goes on from here.
        torch.manual_seed(base)
        return scored

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        draw = Draw(self.seeds, self.said.temperature, self.said.top_p)
        with drawing(model, draw):
            return super()._generate_single_turn(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _calculate_rewards(self, inputs: list[Sample], prompts: Any, completions: list[str], ids: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, ids)
        # What was held out is answered too, and is nobody's to learn from. The wrapper of several processes does not
        # know which it is: the model does.
        model: Any = self.model
        if model.training:
            told = zip(inputs, self.seeds, completions, ids, self.reward.trials, strict=True)
            everyones = gather_object([self._rollout(*one) for one in told])
            if self.rollouts is not None:
                self.rollouts.append(everyones)
        return rewards

    def _rollout(self, sample: Sample, seed: int, completion: str, ids: Sequence[int], trial: Trial) -> Rollout:
        tests = self.reward.tests
        return Rollout(
            step=self.state.global_step,
            task_id=sample["task_id"],
            task=sample.get("event_id"),
            seed=seed,
            prompt=str(self.job.tokenizer.decode(sample[PROMPT])),
            completion=completion,
            completion_ids=tuple(ids),
            reward=self.reward.value(trial),
            scorer=Scorer(tests.name, tests.version, tests.digest),
            recorded_at=datetime.now(UTC),
            **figures(trial),
        )


def refuse_partial_rounds(job: Job, said: Grpo) -> None:
    """Raises UsageError where a stage or the way to a checkpoint is no whole number of rounds."""
    steps = said.steps_of_round
    for number, laid in enumerate(job.plan.stages):
        if laid.steps % steps:
            raise UsageError(
                f"stages[{number}]: {laid.steps} steps, and answers are drawn for {steps} at once",
                f"say steps, as a multiple of {steps}: grpo.steps_per_generation times grpo.iterations",
            )


def refuse_what_depends_on_processes(job: Job, said: Grpo) -> None:
    """Raises UsageError where another number of processes would learn something else from the same answers."""
    if job.processes > 1 and said.steps_per_generation > 1:
        raise UsageError(
            "grpo.steps_per_generation: each process shuffles its own answers among the steps that share them",
            "leave it at 1, or train on one device",
        )
    if said.loss == "bnpo" and job.spec.optimizer.parts > 1:
        raise UsageError(
            'grpo.loss: "bnpo" is the mean over the tokens of each part, and parts do not add up to a step',
            'take "dapo", or optimizer.parts = 1',
        )


def refuse_long(told: Sequence[Prompts], said: Grpo, model: Any) -> None:
    """Raises UsageError where a prompt and its answer may have more tokens than the model has positions."""
    room = getattr(model.config, "max_position_embeddings", None)
    longest = max(int(prompts.field.lengths.max()) for prompts in told)
    if room is not None and longest + said.max_new_tokens > room:
        raise UsageError(
            f"grpo.max_new_tokens: {said.max_new_tokens}, after a prompt of {longest} tokens, are more than the "
            f"{room} positions of the model",
            "let answers be shorter, or say data.longest and an overlong policy",
        )


class _Rounds(IterableDataset[list[Sample]]):
    """The samples of each round at its first micro-batch, and nothing at the others, which use the same answers."""

    def __init__(self, trainer: Policy) -> None:
        self._trainer = trainer

    def __len__(self) -> int:
        return self._trainer.job.plan.steps * self._trainer.job.parts

    def __iter__(self) -> Iterator[list[Sample]]:
        job, steps = self._trainer.job, self._trainer.said.steps_of_round
        for step in range(self._trainer.state.global_step, job.plan.steps):
            for part in range(job.parts):
                yield self._trainer.samples(step) if part == 0 and step % steps == 0 else []


class _Begins(transformers.TrainerCallback):
    """Opens the file of answers at the step that a run begins with, or goes on from."""

    def __init__(self, trainer: Policy) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  asked for so
        """Refuse to begin within a round, and cut what will be answered again."""
        steps = self._trainer.said.steps_of_round
        if state.global_step % steps:
            raise UsageError(
                f"step {state.global_step} is within a round of {steps} steps, and its answers are gone",
                "go on from a checkpoint at a multiple of it",
            )
        if state.is_world_process_zero:
            out = self._trainer.job.out
            # Outside of `run`, which writes one down, a run is called what its folder is.
            run = record.read(out).run if (out / record.NAME).exists() else out.name
            self._trainer.rollouts = Rollouts(out, run)
            self._trainer.rollouts.cut(state.global_step)
