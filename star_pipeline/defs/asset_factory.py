"""What all assets show and share: column schemas, previews, versions, the lake's lock, and errors in one line."""

import functools
import gc
import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster._utils.warnings import PreviewWarning

from star_pipeline.adapters.consistency import VERSION
from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.lock import hold_publishing
from star_pipeline.config import StarConfig
from star_pipeline.core.checks import Blocked, Finding, Rule, not_looked_at, together, well_formed
from star_pipeline.core.errors import CheckFailed, StarError
from star_pipeline.core.markdown import inline
from star_pipeline.core.markdown import table as markdown_table
from star_pipeline.core.tables import SHARD_TABLES, TASK_DOMAINS, TableSpec
from star_pipeline.defs.partitions import OWNERS, POOL, SHARDS
from star_pipeline.defs.resources import LakeLockResource
from star_pipeline.figures import Figure
from star_pipeline.figures.image import as_markdown, coverage
from star_pipeline.instance.attempts import KIND

Metadata = Mapping[str, Any]
SIMILARITY = "near_duplicate_similarity"
"""In task_domains' own metadata: the cosine that its groups of near-duplicates were made with."""
_CELL = 70
_ERROR = dg.AssetCheckSeverity.ERROR


def lake_asset(
    name: str,
    group: str,
    description: str,
    *,
    spec: TableSpec[Any] | None = None,
    partitioned: bool = True,
    locked: bool = True,
    deps: Iterable[Any] = (),
    kinds: frozenset[str] = frozenset({"parquet"}),
    equation: str | None = None,
    follows: dg.AutomationCondition[Any] | None = None,
    checks: Sequence[Rule] = (),
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """``dg.asset`` with what the project's assets have in common.

    ``locked`` assets run only while this process holds the lake, in the pool of one run; the others, which are made of all shards,
    one at a time, whoever makes them. StarErrors end a step as one line.
    ``checks`` are the rules that the result's findings are about: where a blocking one fails, the result is not written.
    """

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        @functools.wraps(function)
        def guarded(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[Any]:
            try:
                if locked:
                    inputs.pop("lake_lock").require()
                lake = None if locked else inputs["lake"].open()
                alone = hold_publishing(lake, f"run {context.run.run_id[:8]}") if lake else nullcontext()
                with alone, _less_garbage_collection():
                    result = function(context, **inputs)
            except Blocked as error:
                yield check_result(error.finding)
                yield from (check_result(not_looked_at(rule)) for rule in checks if rule != error.finding.rule)
                raise failure(error) from error
            except StarError as error:
                raise failure(error) from error
            if blocked := blocking(result):
                yield from result.check_results
                raise failure(CheckFailed("; ".join(str(found.description) for found in blocked)))
            yield result

        if locked:
            _add_parameter(guarded, function, "lake_lock", LakeLockResource)

        return dg.asset(
            name=name,
            group_name=group,
            description=description,
            partitions_def=SHARDS if partitioned else None,
            pool=POOL if locked else None,
            deps=list(deps),
            kinds=set(kinds),
            owners=OWNERS,
            automation_condition=follows,
            tags={"stage": group.split("_", 1)[1], **({"equation": equation} if equation else {})},
            metadata={"dagster/column_schema": column_schema(spec)} if spec else {},
            check_specs=[_check_spec(rule, name, SHARDS if partitioned else None) for rule in checks],
        )(guarded)

    return decorate


@contextmanager
def _less_garbage_collection() -> Iterator[None]:
    """For a step: it imports tens of thousands of objects, and would look through them all for garbage again and again."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _check_spec(rule: Rule, asset: str, shards: dg.PartitionsDefinition[str] | None) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # a check that tells one shard from another is a preview in Dagster 1.13
        warnings.simplefilter("ignore", PreviewWarning)
        return dg.AssetCheckSpec(
            rule.name, asset=asset, description=rule.asks, blocking=rule.blocks, partitions_def=shards
        )


def failure(error: StarError) -> dg.Failure:
    """What Dagster is told of an error: its line, its class, and that trying again at once is no use."""
    return dg.Failure(description=str(error), metadata={KIND: type(error).__name__}, allow_retries=False)


def _add_parameter(guarded: Callable[..., Any], function: Callable[..., Any], name: str, kind: type) -> None:
    """Let Dagster see a parameter more than ``function`` has: it reads an asset's resources off its signature."""
    signature = inspect.signature(function)
    parameter = inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    guarded.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])  # type: ignore[attr-defined]
    guarded.__annotations__ = {**function.__annotations__, name: kind}


def all_shards_of(spec: TableSpec[Any]) -> dg.AssetDep:
    """A dependency on a table as a whole, whatever shards there are."""
    return dg.AssetDep(spec.name, partition_mapping=dg.AllPartitionMapping())


def column_schema(spec: TableSpec[Any]) -> dg.TableSchema:
    """The table's columns as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                c.name,
                str(c.type),
                c.description,
                dg.TableColumnConstraints(nullable=c.nullable, unique=spec.key == (c.name,)),
            )
            for c in spec.columns
        ]
    )


def made(
    settings: StarConfig,
    spec: TableSpec[Any],
    rows: Sequence[Any],
    preview: Sequence[str],
    metadata: Metadata | None = None,
    findings: Sequence[Finding] = (),
    origin: Mapping[str, str] | None = None,
) -> dg.MaterializeResult[pa.Table]:
    """The result of an asset that is a table: its rows, versioned by content, with a preview of the ``preview`` columns.

    Where there are ``findings``, it is checked to be well formed as well. ``origin`` is what the file's metadata says beside the
    configuration.
    """
    table = stamped(spec.to_arrow(rows), settings, spec)
    table = table.replace_schema_metadata({**table.schema.metadata, **(origin or {})})
    return dg.MaterializeResult(
        value=table,
        data_version=dg.DataVersion(table.schema.metadata[VERSION].decode()),
        metadata={
            "dagster/row_count": table.num_rows,
            **(metadata or {}),
            "preview": markdown(table, preview),
            "config_fingerprint": settings.fingerprint,
        },
        check_results=[
            check_result(finding) for finding in together([well_formed(spec, table), *findings] if findings else [])
        ],
    )


def plot(figure: Figure, shown: str) -> dg.MarkdownMetadataValue:
    """A figure of the shards that ``shown`` tells of (see ``covers``), for an asset's metadata."""
    return dg.MetadataValue.md(as_markdown(figure, shown))


def covers(lake: Lake, shards: Iterable[str]) -> str:
    """What a plot of these shards covers: their places among the catalogue's shards, and how many seeds they have."""
    wanted, known = set(shards), lake.catalog_shards()
    places = {key: place for place, key in enumerate(known, start=1) if key in wanted}
    return coverage([*places.values()], len(known), lake.seeds_in(places))


def blocking(result: dg.MaterializeResult[Any]) -> list[dg.AssetCheckResult]:
    """The result's findings for which nothing of it may be written."""
    return [found for found in result.check_results or () if not found.passed and found.severity == _ERROR]


def check_result(finding: Finding) -> dg.AssetCheckResult:
    """A finding as Dagster shows it: an error where wrong data would flow on, else a warning."""
    return dg.AssetCheckResult(
        check_name=finding.rule.name,
        passed=finding.passed,
        severity=_ERROR if finding.rule.blocks else dg.AssetCheckSeverity.WARN,
        description=finding.text,
        metadata=dict(finding.values),
    )


def stamped(table: pa.Table, settings: StarConfig, spec: TableSpec[Any]) -> pa.Table:
    """The table with its data version and the configuration that made it in its metadata: fingerprint, name and, in shards, settings.

    The final data set may be published, and the addresses of a team's servers are its own affair.
    """
    origin = {
        VERSION.decode(): content_hash(table),
        "config_fingerprint": settings.fingerprint,
        "config_name": settings.name,
    }
    if spec in SHARD_TABLES:
        origin["config_settings"] = json.dumps(settings.deciding, ensure_ascii=False, sort_keys=True)
    if spec.name == TASK_DOMAINS.name:
        origin[SIMILARITY] = str(settings.dataset.near_duplicate_similarity)
    return table.replace_schema_metadata(origin)


def markdown(table: pa.Table, columns: Sequence[str], limit: int = 8) -> dg.MarkdownMetadataValue:
    """The first rows as a Markdown table; long texts are cut, line breaks shown as spaces."""
    rows = table.select(list(columns)).slice(0, limit).to_pylist()
    told = markdown_table(columns, ([_cell(row[name]) for name in columns] for row in rows))
    return dg.MetadataValue.md(
        told + (f"\n… and {table.num_rows - limit:,} more rows" if table.num_rows > limit else "")
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value)[: 20 * _CELL].split())
    return inline(text if len(text) <= _CELL else f"{text[:_CELL]}…")


def counts(values: Iterable[Any]) -> dict[str, int]:
    """How often each value occurs, most frequent first; None is left out."""
    found: dict[str, int] = {}
    for value in values:
        if value is not None:
            found[str(value)] = found.get(str(value), 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
