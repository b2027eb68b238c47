"""How fast the local scorer is: python -m star_pipeline_tests.benchmarks.scoring [--help]

Everything is measured in one run, in turns, as CPU seconds of one thread (a GPU: wall-clock), so that ratios hold on a busy machine:

- against scoring one by one with the whole vocabulary's logits, as Superfiltering, Cherry_LLM and Data-Juicer do, with torch's
  default matrix library and with the one that the scorer chose;
- against the matrix-product limit, the best rate of any product measured in this run;
- with 1, 2 and 4 times the samples; and the peak memory of processes of their own with 1,000 and 4,000 samples.

Weights are random, in Pythia-70m's shape, unless --model names another; rows are real where --rows has them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.model_size import skeleton
from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.local import BATCH_TOKENS, LocalScorer
from star_pipeline.adapters.scoring.numerics import Numerics, settle
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass, forest, packed
from star_pipeline.adapters.scoring.tokenizer import PassBuilder, load_tokenizer
from star_pipeline.core.ports import ScoringSample

_ROWS = Path(__file__).resolve().parents[3] / "shared/data/alpaca"
_SHAPES = {
    "70m": {"hidden": 512, "layers": 6, "heads": 8, "vocabulary": 50_304},
    "1b": {"hidden": 2048, "layers": 16, "heads": 8, "vocabulary": 50_304},
    "llama-1b": {"hidden": 2048, "layers": 16, "heads": 32, "shared_by": 4, "vocabulary": 128_256},
}
"""Pythia's of 70M and 1B, and that of a Llama 3.2 of 1B, whose keys ``shared_by`` heads share."""
_SMALL = {"hidden": 64, "layers": 2, "heads": 4, "vocabulary": 50_304}
_TEMPLATE, _LIMIT = "alpaca", 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=Path, default=None, help="JSON list of Alpaca rows; default: what the shared data has"
    )
    parser.add_argument("--seeds", type=int, default=32, help="instructions, of four responses each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=list(_SHAPES), default="70m")
    parser.add_argument("--batch-tokens", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--speed-alone", action="store_true", help="neither growth nor memory")
    parser.add_argument("--peak-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help="folder of a model in place of random weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = _rows(args.rows)
    if args.peak_of:
        print(_peak(args.model, rows, args.peak_of))
        return
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or _random_model(Path(scratch) / "model", rows, _SHAPES[args.shape])
        console = Console(width=110, highlight=False)
        _speed(console, model, _four_a_seed(rows, args.seeds), args)
        if not args.speed_alone:
            _growth(console, model, rows, args)
        if args.device == "cpu" and not args.speed_alone:
            _memory(console, _random_model(Path(scratch) / "small", rows, _SMALL), args)


def _speed(console: Console, model: Path, samples: Sequence[ScoringSample], args: argparse.Namespace) -> None:
    kind = args.device.split(":")[0]
    chosen = settle("float32", kind, None)
    fixed = Numerics("float32", kind, 1, chosen.linear)
    half = Numerics("bfloat16", kind, 1, "default")
    plain, sampled = _OneByOne(model, args.device), 1 if kind == "cpu" else 8
    some = samples[::sampled]  # one by one a GPU takes so long that a part of it tells
    ours = {"float32": fixed, "bfloat16": half}
    if kind == "cuda":
        ours["bfloat16, compiled layers"] = Numerics("bfloat16", kind, 1, "default", "compiled")
    scorers = {name: _scorer(model, numerics, args) for name, numerics in ours.items()}
    ways: dict[str, Callable[[], Any]] = {
        "one by one, full logits, default library": lambda: plain.losses(some),
        **(
            {f"one by one, full logits, {chosen.linear}": lambda: _within(fixed, lambda: plain.losses(some))}
            if kind == "cpu"
            else {}
        ),
    }
    for name, scorer in scorers.items():
        ways[f"this scorer, {name}"] = partial(_losses, scorer, samples)
    base, same = next(iter(ways)), list(ways)[kind == "cpu"]
    limited = {f"this scorer, {name}": name for name in ours}
    times: dict[str, list[float]] = {name: [] for name in ways}
    limits: dict[str, list[float]] = {name: [] for name in ours}
    values: dict[str, Any] = {}
    turns = [(way, turn) for turn in range(args.rounds) for way in ways]
    if kind == "cuda":  # way by way, since no more than two models stay loaded; one by one once
        turns = sorted(
            ((way, turn) for way, turn in turns if way != base or not turn), key=lambda at: list(ways).index(at[0])
        )
    for name, turn in turns:
        if not turn and name in limited:
            ways[name]()  # load, compile kernels
        if name in limited:
            limits[limited[name]].append(_gemm_limit(ours[limited[name]], args.device))
        began = _now(kind)
        values[name] = ways[name]()
        times[name].append((_now(kind) - began) * (sampled if name == base else 1))
    seconds = {name: median(taken) for name, taken in times.items()}
    work = _work(model, samples, args.batch_tokens or (BATCH_TOKENS[kind]))
    scored = sum(loss.n_tokens for loss in values["this scorer, float32"])
    table = Table(title=f"{len(samples)} samples, {args.shape}, {args.device}, matrix library chosen: {chosen.linear}")
    for title in ("way", "seconds", "samples/s", "scored tokens/s", "× one by one", "× same library", "of the limit"):
        table.add_column(title, justify="left" if title == "way" else "right")
    for name, taken in seconds.items():
        own = name.removeprefix("this scorer, ")
        share = f"{work / taken / max(limits[own]):.1%}" if own in limits else ""
        against = [f"{seconds[other] / taken:.2f}" for other in (base, same)]
        rates = [f"{len(samples) / taken:.1f}", f"{2 * scored / taken:,.0f}"]
        table.add_row(name, f"{taken:.2f}", *rates, *against, share)
    console.print(table)
    for name, found in limits.items():
        console.print(f"limit {name}: {max(found) / 1e9:,.0f} GFLOP/s; the scorer's products: {work / 1e9:,.0f} GFLOP")
    reference = np.array(values[base])
    for name in limited:
        found_ = np.array([(loss.nll_given, loss.nll_alone) for loss in values[name]])
        found_ = found_[::sampled]
        ifd = np.abs(np.exp(found_[:, 0] - found_[:, 1]) / np.exp(reference[:, 0] - reference[:, 1]) - 1)
        console.print(f"{name}: IFD differs from one by one by {ifd.max():.1e} at most (relative)")


def _growth(console: Console, model: Path, rows: Sequence[dict[str, str]], args: argparse.Namespace) -> None:
    numerics = Numerics(
        "float32", args.device.split(":")[0], 1, settle("float32", args.device.split(":")[0], None).linear
    )
    scorer = _scorer(model, numerics, args)
    taken = []
    for times in (1, 2, 4):
        samples = _four_a_seed(rows, args.seeds * times)
        began = _now(numerics.device)
        _losses(scorer, samples)
        tokens = sum(len(item.tokens) for item in _passes(model, samples))
        taken.append((len(samples), tokens, _now(numerics.device) - began))
    first = taken[0]
    for count, tokens, seconds in taken:
        console.print(f"{count:5} samples ({tokens / first[1]:.2f} × the tokens): {seconds / first[2]:.2f} × the time")


def _memory(console: Console, model: Path, args: argparse.Namespace) -> None:
    given = ["--rows", str(args.rows)] if args.rows else []
    peaks = []
    for count in (1000, 4000):
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--peak-of", str(count)]
        done = subprocess.run([*command, "--model", str(model), *given], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    console.print(
        f"peak memory: {peaks[0] / 2**20:,.0f} MiB with 1,000 samples, {peaks[1] / 2**20:,.0f} MiB with 4,000 "
        f"({peaks[1] / peaks[0]:.3f} ×); a batch's logits alone would be {2048 * _SMALL['vocabulary'] * 4 / 2**20:,.0f} MiB"
    )


def _peak(model: Path, rows: Sequence[dict[str, str]], count: int) -> int:
    """Bytes at most of this process that scores ``count`` samples, 256 at a time, as ``star-pipeline score`` does."""
    scorer = LocalScorer(
        str(model), Numerics("float32", "cpu", 1, settle("float32", "cpu", None).linear), _TEMPLATE, _LIMIT
    )
    samples = [_sample(rows[n % len(rows)], f"{rows[n % len(rows)]['output']} {n}") for n in range(count)]
    for first in range(0, count, 256):
        _losses(scorer, samples[first : first + 256])
    # this process's own peak; getrusage would tell the parent's, which it was forked from
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class _OneByOne:
    """As the peers score: one sample after the other, transformers' own loss over the whole sequence's logits."""

    def __init__(self, folder: Path, device: str) -> None:
        self._model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self._maker, self._device = PassBuilder(load_tokenizer(str(folder)), _TEMPLATE, _LIMIT), device

    def losses(self, samples: Sequence[ScoringSample]) -> list[tuple[float, float]]:
        pairs = self._maker.passes(samples, [len(sample.response) for sample in samples])
        with torch.no_grad():
            return [(self._loss(given), self._loss(alone)) for given, alone in pairs]

    def _loss(self, item: Any) -> float:
        ids = torch.from_numpy(item.tokens.astype(np.int64))[None].to(self._device)
        labels = ids.clone()
        labels[:, : -item.scored] = -100
        return float(self._model(input_ids=ids, labels=labels).loss)


def _losses(scorer: LocalScorer, samples: Sequence[ScoringSample]) -> Any:
    return scorer.losses(samples, [fit.kept_chars for fit in scorer.fit(samples)])


def _scorer(model: Path, numerics: Numerics, args: argparse.Namespace) -> LocalScorer:
    devices = (args.device,) if args.device != "cuda" else ("cuda:0",)
    return LocalScorer(
        str(model), numerics, _TEMPLATE, _LIMIT, devices=devices, batch_tokens=args.batch_tokens, keep="both"
    )


def _within(numerics: Numerics, work: Callable[[], Any]) -> Any:
    with numerics.in_force():
        return work()


def _gemm_limit(numerics: Numerics, device: str) -> float:
    """FLOP a second of the fastest large product."""
    dtype = getattr(torch, numerics.dtype)
    best = 0.0
    with numerics.in_force(), torch.inference_mode():
        for m, k, n in (
            ((2048, 2048, 2048), (1024, 512, 2048), (1024, 2048, 512)) if device == "cpu" else ((8192,) * 3,)
        ):
            x, w = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (n, k)))
            torch.nn.functional.linear(x, w)
            for _ in range(5):
                began = _now(numerics.device)
                torch.nn.functional.linear(x, w)
                best = max(best, 2 * m * k * n / (_now(numerics.device) - began))
    return best


def _work(model: Path, samples: Sequence[ScoringSample], budget: int) -> float:
    """FLOP of the scorer's matrix products: layers, attention (what is seen), head."""
    config = transformers.AutoConfig.from_pretrained(model)
    passes = list({item.key: item for item in _passes(model, samples)}.values())
    inner = skeleton(str(model)).base_model
    a_token = 2 * sum(
        weights.numel() for name, weights in inner.named_parameters() if weights.dim() == 2 and "embed" not in name
    )
    total = 0.0
    for members in packed(passes, budget):
        batch = forest(passes, members)
        for segment in batch.segments:
            length = segment.end - segment.start
            keys = length * segment.depth + length * (length + 1) / 2
            total += length * a_token + 4 * config.num_hidden_layers * config.hidden_size * keys
        total += 2 * len(batch.targets) * config.hidden_size * config.vocab_size
    return total


def _passes(model: Path, samples: Sequence[ScoringSample]) -> list[ForwardPass]:
    maker = PassBuilder(load_tokenizer(str(model)), _TEMPLATE, _LIMIT)
    return [item for pair in maker.passes(samples, [len(s.response) for s in samples]) for item in pair]


def _now(kind: str) -> float:
    if kind == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _rows(path: Path | None) -> list[dict[str, str]]:
    files = [path] if path else sorted(_ROWS.glob("*.json*"))
    if not files:
        sys.exit("no rows; name a JSON list of Alpaca rows with --rows")
    text = files[0].read_text("utf-8")
    rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    return [row for row in rows if row["output"].strip()]


def _sample(row: dict[str, str], response: str) -> ScoringSample:
    instruction = "\n".join(filter(None, (row["instruction"], row.get("input", ""))))
    return ScoringSample(None, (), instruction, response)


def _four_a_seed(rows: Sequence[dict[str, str]], seeds: int) -> list[ScoringSample]:
    """Each row's instruction with its own response and those of the next three rows."""
    return [
        _sample(rows[n % len(rows)], rows[(n + other) % len(rows)]["output"])
        for n in range(seeds)
        for other in range(4)
    ]


def _random_model(folder: Path, rows: Sequence[dict[str, str]], shape: dict[str, int]) -> Path:
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    texts = [text for row in rows for text in (row["instruction"], row["output"])]
    bpe.train_from_iterator(
        texts, vocab_size=shape["vocabulary"], special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    given = {
        "vocab_size": shape["vocabulary"],
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "intermediate_size": 4 * shape["hidden"],
        "max_position_embeddings": 2048,
    }
    if "shared_by" in shape:
        given["num_key_value_heads"] = shape["heads"] // shape["shared_by"]
    config = transformers.AutoConfig.for_model("llama" if "shared_by" in shape else "gpt_neox", **given)
    transformers.utils.logging.disable_progress_bar()
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
    model_cache.clear()
