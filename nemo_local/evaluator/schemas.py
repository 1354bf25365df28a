"""Wire types of results, wider than the SDK's: a score that no row has is null."""

from nemo_microservices import types


class Score(types.Score):
    """A metric's score."""

    value: float | None  # type: ignore[assignment]


class MetricResult(types.MetricResult):
    """The scores of a metric."""

    scores: dict[str, Score] | None = None  # type: ignore[assignment]


class TaskResult(types.TaskResult):
    """The metrics of a task."""

    metrics: dict[str, MetricResult] | None = None  # type: ignore[assignment]


class GroupResult(types.GroupResult):
    """The metrics of a group of tasks."""

    metrics: dict[str, MetricResult] | None = None  # type: ignore[assignment]


class EvaluationResult(types.EvaluationResult):
    """A result as it is shown."""

    tasks: dict[str, TaskResult] | None = None  # type: ignore[assignment]
    groups: dict[str, GroupResult] | None = None  # type: ignore[assignment]
