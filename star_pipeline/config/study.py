"""A study of a lake: training sets made from its tables, models tuned on them, and what those are worth."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from star_pipeline.config.params import Params
from star_pipeline.config.scoring import LocalModel, ScoringModel, ServedModel
from star_pipeline.config.section import Section
from star_pipeline.core.study.names import RULES, SEEDS, UNTUNED, Equalise, Rule

LakeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""The name of another lake's arm: it names a file and stands in plots."""
Files = tuple[Annotated[str, Field(min_length=1)], ...]


class LoraConfig(Section):
    rank: int = Field(16, ge=1, le=1024, description="rank of the adapters")
    alpha: float = Field(32.0, gt=0, le=4096, description="scale of the adapters: alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout on the adapters' input")
    target_modules: str | tuple[str, ...] = Field(
        "all-linear", description="modules that get adapters: all-linear, or their names, such as [q_proj, v_proj]"
    )


class TuneConfig(Section):
    """How every arm is tuned. The defaults are the paper's where it says; none of it differs between arms."""

    method: Literal["full", "lora"] = Field(
        "full",
        description="full: all weights; lora: adapters alone, which are merged into the weights when the model is saved",
    )
    epochs: float = Field(3.0, gt=0, le=1000, description="passes over the arm's rows")
    learning_rate: float = Field(2e-5, gt=0, le=1, description="peak learning rate; for lora about 10 times as high")
    max_length: int = Field(2048, ge=8, le=1_000_000, description="tokens of a row; what is longer is cut at its end")
    batch_size: int = Field(64, ge=1, le=65_536, description="rows an update, reached by accumulation")
    device_batch_size: int | None = Field(
        None, ge=1, le=65_536, description="rows computed at once; null: by the memory there is"
    )
    optimizer: str = Field(
        "adamw_torch", min_length=1, description="by transformers' name; adamw_torch without decay is Adam"
    )
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = Field(
        "cosine", description="how the learning rate falls"
    )
    warmup_ratio: float = Field(
        0.03, ge=0, lt=1, description="share of the updates in which the rate rises to its peak"
    )
    weight_decay: float = Field(0.0, ge=0, le=10, description="AdamW's decay; 0 is Adam, as in the paper")
    lora: LoraConfig = LoraConfig()
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:\d+)$", description="auto, cpu, cuda, or cuda:N")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="what is computed in. auto: float32 on CPU, bfloat16 on GPU"
    )
    gradient_checkpointing: bool = Field(False, description="compute activations again in place of keeping them")

    @model_validator(mode="after")
    def _fits_together(self) -> "TuneConfig":
        if self.method == "full" and self.lora != LoraConfig():
            raise ValueError("lora belongs to method: lora; set it, or take lora out")
        if self.device_batch_size is not None and self.batch_size % self.device_batch_size:
            raise ValueError(
                f"device_batch_size: {self.device_batch_size} does not divide batch_size {self.batch_size}; expected one that does"
            )
        return self

    @property
    def optimization(self) -> dict[str, object]:
        """What decides the tuned weights, as plain data: without where, and in which portions, it is computed."""
        idle = {"device", "device_batch_size", "gradient_checkpointing"} | (
            set() if self.method == "lora" else {"lora"}
        )
        return self.model_dump(mode="json", exclude=idle)


class AnswersConfig(Section):
    questions: Files = Field(
        min_length=1,
        description="files of questions: as seed files, or in the form of MT-bench, Vicuna-bench, WizardLM's or Koala's test set; "
        "relative to this file",
    )
    max_tokens: int = Field(1024, ge=1, le=1_000_000, description="most tokens of an answer")
    temperature: float = Field(0.0, ge=0, le=10, description="0: greedy; above, drawn by the arm's training seed")
    agent: str | None = Field(
        None,
        description="an agent whose server answers in place of transformers here: it serves each tuned model under the model's name; "
        "null: here",
    )


class PairwiseConfig(Section):
    judge: str | None = Field(None, description="the agent that compares answers; null: judge.agent")
    baseline: str = Field(SEEDS, min_length=1, description="the arm that the others are compared with")
    attempts: int = Field(2, ge=1, le=10, description="tries per order to get a readable verdict")
    params: Params = Field(
        default_factory=lambda: {"temperature": 0.0}, description="override the agent's params when it compares"
    )


class GradesConfig(Section):
    judge: str | None = Field(None, description="the agent that grades answers from 1 to 10; null: judge.agent")
    attempts: int = Field(2, ge=1, le=10, description="tries to get a readable grade")
    params: Params = Field(
        default_factory=lambda: {"temperature": 0.0}, description="override the agent's params when it grades"
    )


class LmEvalConfig(Section):
    tasks: tuple[str, ...] = Field(
        min_length=1, description="tasks by lm-eval's names, such as [arc_challenge, hellaswag, mmlu, truthfulqa_mc2]"
    )
    limit: int | None = Field(None, ge=1, description="most questions of a task, its first; null: all")
    num_fewshot: int | None = Field(None, ge=0, le=100, description="examples shown; null: each task's own number")
    batch_size: int | None = Field(None, ge=1, description="questions computed at once; null: by the memory there is")
    include_path: str | None = Field(
        None, min_length=1, description="folder of task files of the user's own, relative to this file"
    )


class IfevalConfig(Section):
    questions: Files = Field(
        min_length=1,
        description="files in IFEval's form (key, prompt, instruction_id_list, kwargs), relative to this file",
    )
    max_tokens: int = Field(1024, ge=1, le=1_000_000, description="most tokens of an answer")


class EvaluateConfig(Section):
    """What the tuned models are asked. Each is left out where it is not named."""

    held_out: Files = Field(
        (),
        description="files (as seed files, relative to this one) or data sets by hub name whose responses are strong reference answers: "
        "their mean loss given the instruction is measured; needs no judge",
    )
    answers: AnswersConfig | None = Field(None, description="answers to questions; null: none are made")
    pairwise: PairwiseConfig | None = Field(
        None, description="a judge compares the answers with a baseline arm's, in both orders; null: not"
    )
    grades: GradesConfig | None = Field(None, description="a judge grades each answer from 1 to 10; null: not")
    lm_eval: LmEvalConfig | None = Field(None, description="lm-eval's tasks; null: none")
    ifeval: IfevalConfig | None = Field(None, description="IFEval's instructions that a program verifies; null: not")
    untuned: bool = Field(
        True,
        description="measure each target as it is, too: is an arm better than no tuning? Costs what the measuring of one more model does",
    )

    @model_validator(mode="after")
    def _answers_first(self) -> "EvaluateConfig":
        for name, value in (("pairwise", self.pairwise), ("grades", self.grades)):
            if value is not None and self.answers is None:
                raise ValueError(f"{name} needs answers to judge; set answers: {{questions: [FILE]}}")
        return self


class StudyConfig(Section):
    """Which training sets are made from this lake, and how the models tuned on them are compared."""

    arms: tuple[Rule, ...] = Field(
        (SEEDS, "random", "star"),
        min_length=1,
        description="training sets, each one row of every seed. seeds: as they are; random: any candidate; longest: in tokens; ifd: "
        "highest IFD under the target; likely: highest mean log-probability under the target; judge: highest pi_llm; gap: highest "
        "pi_dual; star: what Eq. 1 selected",
    )
    lakes: dict[LakeName, str] = Field(
        default_factory=dict,
        description="name of an arm → another lake's folder, relative to this file: the rows selected there for the same seeds",
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, description="training seeds: each arm is tuned once with each of them"
    )
    equalise: Equalise = Field(
        "rows",
        description="rows: every arm has the same seeds; tokens: each arm keeps, of the same seeds in the same random order, as many as "
        "have the same number of response tokens",
    )
    targets: tuple[ScoringModel, ...] = Field(
        (),
        description="models to tune, by Hugging Face id or folder; none: scoring.small; several: how the arms compare as models grow",
    )
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @field_validator("targets")
    @classmethod
    def _loaded_here(cls, targets: tuple[ScoringModel, ...]) -> tuple[ScoringModel, ...]:
        for target in targets:
            if isinstance(target, ServedModel):
                raise ValueError(
                    f"{target} is on a server, and a target is tuned here; name its Hugging Face id or folder"
                )
        return targets

    @model_validator(mode="after")
    def _distinct(self) -> "StudyConfig":
        for name, values in (("arms", self.arms), ("seeds", self.seeds), ("targets", tuple(map(str, self.targets)))):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice")
        for name in self.lakes:
            if name in (*RULES, UNTUNED):
                raise ValueError(f"lakes.{name}: this is the name of an arm of this lake; choose another")
        baseline = self.evaluate.pairwise.baseline if self.evaluate.pairwise else None
        if baseline is not None and baseline not in self.arm_names:
            raise ValueError(
                f"evaluate.pairwise.baseline: {baseline!r} is no arm; expected one of {', '.join(self.arm_names)}"
            )
        return self

    @property
    def arm_names(self) -> tuple[str, ...]:
        """This lake's arms, then other lakes'."""
        return (*self.arms, *self.lakes)

    @property
    def agents(self) -> dict[str, str]:
        """field → the agent that it names."""
        named = {
            "answers.agent": self.evaluate.answers and self.evaluate.answers.agent,
            "pairwise.judge": self.evaluate.pairwise and self.evaluate.pairwise.judge,
            "grades.judge": self.evaluate.grades and self.evaluate.grades.judge,
        }
        return {f"study.evaluate.{field}": agent for field, agent in named.items() if agent}

    def models(self, small: ScoringModel) -> tuple[str | LocalModel, ...]:
        """The models to tune; ``small`` is scoring.small. Raises ValueError where it is on a server, and no target is named."""
        models = self.targets or (small,)
        if served := next((model for model in models if isinstance(model, ServedModel)), None):
            raise ValueError(
                f"study.targets: scoring.small is {served}, on a server, and a target is tuned here; name its Hugging Face id or folder"
            )
        return tuple(model for model in models if not isinstance(model, ServedModel))
