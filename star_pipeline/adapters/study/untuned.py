"""A target before any tuning, as a folder of the same kind as tuned models have: asked and measured in the very same way."""

import math
import time
from pathlib import Path

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.model_errors import unloadable
from star_pipeline.adapters.study.extras import quietly
from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.adapters.study.tuned_folder import (
    FinishedTraining,
    TunedFolder,
    device_of,
    dtype_on,
    made_once,
    ready_to_save,
)
from star_pipeline.config.study import TuneConfig
from star_pipeline.core.ports import Progress


def keep_untuned(
    source: str, folder: Path, how: TuneConfig, form: Form, progress: Progress, name: str = ""
) -> FinishedTraining:
    """``source`` as it is, with the chat template and end token that its tuned models have, in ``folder``, unless it is there."""

    def loaded() -> TunedFolder:
        import transformers

        began = time.monotonic()
        texts, dtype = TargetTexts(source, form, how.max_length), dtype_on(device_of(how), how)
        try:
            with quietly():
                here = only_from_here(source)
                model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, local_files_only=here)
        except Exception as error:  # whatever transformers says to files that are not what they should be
            raise unloadable(source, error) from error
        facts = FinishedTraining(folder, 0, 0, 0, 0, 0, math.nan, time.monotonic() - began)
        return TunedFolder(ready_to_save(model, texts, dtype), texts.tokenizer_to_keep(source), facts)

    return made_once(folder, name, progress, loaded)
