"""Whether judge, scoring models and agents are fit, before a run is paid for."""

import dagster as dg

from star_pipeline.adapters.calibrating import SEEDS, Outside, calibrate
from star_pipeline.adapters.calibration_files import words_of
from star_pipeline.adapters.first_seeds import first_seeds
from star_pipeline.adapters.preflight import check_agents
from star_pipeline.core.calibration.findings import IN_WORDS
from star_pipeline.core.calibration.words import page, verdict, verdicts
from star_pipeline.defs.asset_factory import lake_asset
from star_pipeline.defs.resources import (
    ChatResource,
    EmbedderResource,
    LakeResource,
    MemoryResource,
    ProgressResource,
    ScorerResource,
    SettingsResource,
)


@lake_asset(
    "calibration",
    "0_calibrate",
    "Before you pay: are judge, scoring models and agents fit for this? Measured on the first seeds that a run would take, with probes "
    "made of them whose answers are known. Each figure has its interval, a verdict and a remedy; the replies stay in the journal, so that "
    "the run does not pay for them again.",
    partitioned=False,
    kinds=frozenset({"parquet", "llm", "huggingface"}),
    options={"count": dg.Field(int, default_value=SEEDS, description="how many seeds to measure on")},
)
def calibration(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    settings: SettingsResource,
    chat: ChatResource,
    scorer: ScorerResource,
    embedder: EmbedderResource,
    memory: MemoryResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[None]:
    config, home = settings.load(), lake.open()
    count = max(1, context.op_execution_context.op_config["count"])
    first = first_seeds(home, config, (), count, embedder.embedder, memory.bank, context.log.warning)
    check_agents(config)
    found = calibrate(
        home, config, first, Outside(chat.chat, scorer.small, scorer.large, scorer.kinds), progress.progress()
    )
    return dg.MaterializeResult(
        metadata={
            "verdict": IN_WORDS[verdict(found)],
            **{subject: IN_WORDS[what] for subject, what in verdicts(found).items()},
            "seeds": len(first.seeds),
            "findings": dg.MetadataValue.md(page(found)),
            "path": dg.MetadataValue.path(str(words_of(home))),
            "config_fingerprint": config.fingerprint,
        }
    )
