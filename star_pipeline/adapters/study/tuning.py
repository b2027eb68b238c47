"""Supervised fine-tuning of a target with TRL: one arm's rows, one training seed, an ordinary Hugging Face folder."""

import math
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.scoring.causal_lm import is_out_of_memory
from star_pipeline.adapters.scoring.numerics import ALONE
from star_pipeline.adapters.study.checkpoints import last_checkpoint, saving
from star_pipeline.adapters.study.extras import need, quietly
from star_pipeline.adapters.study.form import Form, TargetTexts, TaughtRow
from star_pipeline.adapters.study.tuned_folder import FinishedTraining as FinishedTraining
from star_pipeline.adapters.study.tuned_folder import TunedFolder, device_of, dtype_on, made_once, ready_to_save
from star_pipeline.adapters.study.tuned_folder import finished_training as finished_training
from star_pipeline.config.study import TuneConfig
from star_pipeline.core.errors import ConfigError, ModelError, in_short
from star_pipeline.core.ports import Progress, ScoringSample

CHECKPOINT_EVERY_S = 300.0
_AT_ONCE = {"cpu": 4_096, "cuda": 16_384}
"""Tokens, padding included, that are computed at once where the configuration does not say how many rows are."""


def tune(
    source: str,
    rows: Sequence[ScoringSample],
    folder: Path,
    how: TuneConfig,
    form: Form,
    seed: int,
    progress: Progress,
    name: str = "",
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    threads: int | None = None,
) -> FinishedTraining:
    """``source`` tuned on ``rows``, in ``folder``, which the caller names by all that decides it: what is there is not made again.

    A killed training goes on from its last checkpoint, kept beside the folder until it is finished; on a CPU the weights are the
    same as without the kill, with as many ``threads`` (None: as torch has it). Others that want the same folder wait.
    Raises ConfigError and ModelError.
    """
    if found := finished_training(folder):
        return found
    need("trl", "tuning")

    def trained() -> TunedFolder:
        training = _Training(source, rows, how, form, seed, progress, name or folder.name, work, checkpoint_every_s)
        with _undisturbed(training.device, threads):
            return training.run()

    work = folder.parent / f".{folder.name}.training"
    tuned = made_once(folder, name, progress, trained)
    shutil.rmtree(work, ignore_errors=True)
    return tuned


class _Training:
    def __init__(
        self,
        source: str,
        rows: Sequence[ScoringSample],
        how: TuneConfig,
        form: Form,
        seed: int,
        progress: Progress,
        name: str,
        work: Path,
        checkpoint_every_s: float,
    ) -> None:
        self._source, self._how, self._seed, self._progress, self._name = source, how, seed, progress, name
        self._work, self._every_s = work, checkpoint_every_s
        self._texts = TargetTexts(source, form, how.max_length)
        taught = self._texts.taught(rows)
        self._rows = [row for row in taught if row is not None]
        self._left_out = len(taught) - len(self._rows)
        if not self._rows:
            raise ModelError(
                f"tuning {name}: none of the {len(taught):,} rows leaves room for an answer within study.tune.max_length "
                f"({self._texts.limit:,} tokens with this model); expected rows with a response; raise max_length or look at the arm"
            )
        self.device = device_of(how)

    def run(self) -> TunedFolder:
        """Train to the end, with fewer rows at once where memory does not suffice."""
        began = time.monotonic()
        for at_once in self._portions():
            trained = self._train(at_once)
            if trained:
                model, updates, loss = trained
                break
            self._progress.note(f"out of memory with {at_once} rows at once: going on with fewer")
        else:
            raise ModelError(
                f"tuning {self._name}: memory does not suffice for one row of {max(len(row.ids) for row in self._rows):,} tokens; lower "
                "study.tune.max_length, set gradient_checkpointing: true, or method: lora"
            )
        if not math.isfinite(loss):
            raise ModelError(
                f"tuning {self._name}: the loss is not a number ({loss}); expected a finite one; lower study.tune.learning_rate"
            )
        facts = FinishedTraining(
            self._work,
            rows=len(self._rows),
            cut=sum(row.cut for row in self._rows),
            left_out=self._left_out,
            taught_tokens=sum(row.taught for row in self._rows),
            updates=updates,
            loss=loss,
            seconds=time.monotonic() - began,
        )
        return TunedFolder(model, self._texts.tokenizer_to_keep(self._source), facts)

    def _portions(self) -> Iterator[int]:
        """Rows at once: as configured, or what about fits, and then fewer; all divide the rows of an update."""
        batch = self._how.batch_size
        longest = max(len(row.ids) for row in self._rows)
        most = self._how.device_batch_size or max(1, _AT_ONCE[self.device.split(":")[0]] // longest)
        fewer = [count for count in range(min(most, batch), 0, -1) if batch % count == 0]
        while fewer:
            yield fewer[0]
            fewer = [count for count in fewer if count <= fewer[0] // 2]

    def _train(self, at_once: int) -> tuple[Any, int, float] | None:
        """(the model, updates, mean loss); None where memory did not suffice."""
        import transformers
        import trl

        transformers.set_seed(self._seed)  # as the trainer does, which comes after the model
        trainer, last = None, last_checkpoint(self._work)
        try:
            trainer = trl.SFTTrainer(
                self._model(last),
                args=self._settings(at_once),
                train_dataset=dataset(self._rows),
                processing_class=self._texts.tokenizer_to_keep(self._source),
                peft_config=self._adapters(),
                callbacks=[saving(self._every_s), _telling(self._progress, self._name)],
            )
            trainer.remove_callback(_printer())
            if last:
                self._progress.note(f"tuning {self._name}: going on from update {last.name.rpartition('-')[2]}")
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            # of all updates, those before a kill too
            told = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
            return self._finished(trainer.model), trainer.state.global_step, _mean(told)
        del trainer  # outside of except, where the error would keep the tensors alive
        _free()
        return None

    def _model(self, last: Path | None) -> Any:
        """What is trained. The trainer goes on with a checkpoint's weights too, but does not know that some families (GPT-NeoX) save
        them under other names than they have in memory, and would pass over those."""
        import transformers

        source, dtype = self._source, self._dtype  # adapters rest on weights as they are computed with
        if self._how.method == "full":
            source, dtype = str(last or source), "float32"  # master weights are in full
        try:
            here = only_from_here(source)
            model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, local_files_only=here)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise unloadable(self._source, error) from error
        return model

    @property
    def _dtype(self) -> str:
        return dtype_on(self.device, self._how)

    def _settings(self, at_once: int) -> Any:
        import trl

        how = self._how
        try:
            made = trl.SFTConfig(
                output_dir=str(self._work),
                num_train_epochs=how.epochs,
                per_device_train_batch_size=at_once,
                gradient_accumulation_steps=how.batch_size // at_once,
                learning_rate=how.learning_rate,
                lr_scheduler_type=how.schedule,
                warmup_steps=how.warmup_ratio,
                optim=how.optimizer,
                weight_decay=how.weight_decay,
                max_length=None,  # the rows are cut
                dataset_kwargs={"skip_prepare_dataset": True},
                seed=self._seed,
                data_seed=self._seed,
                use_cpu=self.device == "cpu",
                bf16=self._dtype == "bfloat16",
                fp16=self._dtype == "float16",
                gradient_checkpointing=how.gradient_checkpointing,
                save_strategy="no",  # ``saving`` asks for them
                save_total_limit=2,  # the one before stays until this one is whole
                logging_strategy="steps",
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=self.device != "cpu",
            )
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"study.tune: {in_short(error)}; expected what transformers' TrainingArguments take"
            ) from error
        if made.n_gpu > 1:  # one process trains on one GPU
            made._n_gpu = 1
        return made

    def _adapters(self) -> Any:
        if self._how.method != "lora":
            return None
        peft = need("peft", "study.tune.method lora")
        lora = self._how.lora
        modules = lora.target_modules
        return peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=modules if isinstance(modules, str) else list(modules),
            task_type="CAUSAL_LM",
        )

    def _finished(self, model: Any) -> Any:
        """Adapters merged, in the dtype it was computed in."""
        return ready_to_save(
            model.merge_and_unload() if self._how.method == "lora" else model, self._texts, self._dtype
        )


def dataset(rows: Sequence[TaughtRow]) -> Any:
    """The rows as TRL takes them: token ids, and labels that leave out all but the answer."""
    import datasets

    labels = [[-100] * (len(row.ids) - row.taught) + row.ids[len(row.ids) - row.taught :].tolist() for row in rows]
    return datasets.Dataset.from_dict({"input_ids": [row.ids.tolist() for row in rows], "labels": labels})


@contextmanager
def _undisturbed(device: str, threads: int | None) -> Iterator[None]:
    """Within, a training may seed all generators of the process; afterwards they are as they were. On a GPU, kernels that give the same
    every time are taken where there are some."""
    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.enter_context(ALONE if device == "cpu" else nullcontext())
        stack.enter_context(torch.random.fork_rng())
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        if ":" in device:
            stack.enter_context(torch.cuda.device(int(device.split(":")[1])))
        stack.enter_context(quietly())
        if device != "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(strict, warn_only=warns)
            np.random.set_state(legacy)
            random.setstate(python)


def _telling(progress: Progress, name: str) -> Any:
    """A trainer's callback that tells how many updates are done, and the loss once an epoch."""
    import transformers

    class Telling(transformers.TrainerCallback):  # type: ignore[misc]  # it is Any, since transformers is not followed
        def on_train_begin(self, args: object, state: Any, control: object, **_: object) -> None:
            progress.stage(f"tuning {name} (updates)", state.max_steps)
            progress.advance(state.global_step)

        def on_step_end(self, *_: object, **__: object) -> None:
            progress.advance()

        def on_epoch_end(self, args: object, state: Any, control: object, **_: object) -> None:
            told = [entry for entry in state.log_history if "loss" in entry]
            last = [entry["loss"] for entry in told if entry["epoch"] > state.epoch - 1]
            if last:
                progress.note(f"tuning {name}: epoch {state.epoch:.0f}, mean loss {_mean(last):.3f} nats a token")

    return Telling()


def _printer() -> Any:
    """What the trainer would print its logs with."""
    import transformers

    return transformers.PrinterCallback


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
