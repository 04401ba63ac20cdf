"""Expressions, conditions and the graph of a pipeline definition."""

from typing import Any

import pytest

from batchloop.container.job import InputError
from batchloop.engine import graph
from batchloop.pipelines import check, expressions
from batchloop.pipelines.expressions import Scope


@pytest.fixture
def scope() -> Scope:
    files = {"s3://b/report.json": {"a": {"b c": [1, 2.5]}}}
    scope = Scope({"Name": "x", "Number": 3, "Flag": True}, {"PipelineExecutionId": "e1"}, files.__getitem__)
    scope.steps["Train"] = {
        "FinalMetricDataList": {"test:auc": {"Value": 0.91}},
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/m.tar.gz"},
        "Containers": [{"Image": "i"}],
        "PropertyFiles": {"Report": "s3://b/report.json"},
    }
    return scope


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Parameters.Name", "x"),
        ("Execution.PipelineExecutionId", "e1"),
        ("Steps.Train.FinalMetricDataList['test:auc'].Value", 0.91),
        ("Steps.Train.Containers[0].Image", "i"),
    ],
)
def test_a_get_is_what_it_points_to(scope: Scope, path: str, value: Any) -> None:
    assert expressions.resolve({"deep": [{"Get": path}]}, scope) == {"deep": [value]}


def test_a_join_writes_numbers_and_flags_as_text(scope: Scope) -> None:
    values = ["a", {"Get": "Parameters.Number"}, {"Get": "Parameters.Flag"}, {"Get": "Parameters.Name"}]
    assert expressions.resolve({"Std:Join": {"On": "/", "Values": values}}, scope) == "a/3/true/x"


def test_joins_nest(scope: Scope) -> None:
    inner = {"Std:Join": {"On": "-", "Values": ["a", "b"]}}
    assert expressions.resolve({"Std:Join": {"On": "/", "Values": [inner, "c"]}}, scope) == "a-b/c"


def test_a_json_get_reads_a_steps_property_file_or_a_uri(scope: Scope) -> None:
    file = {"PropertyFile": {"Get": "Steps.Train.PropertyFiles.Report"}, "Path": "a['b c'][1]"}
    assert expressions.resolve({"Std:JsonGet": file}, scope) == 2.5
    joined = {"Std:Join": {"On": "/", "Values": ["s3://b", "report.json"]}}
    assert expressions.resolve({"Std:JsonGet": {"S3Uri": joined, "Path": "a['b c'][0]"}}, scope) == 1


def test_a_dangling_reference_is_named(scope: Scope) -> None:
    with pytest.raises(InputError, match=r"FinalMetricDataList\['test:f1'\].*'test:f1'"):
        expressions.resolve({"Get": "Steps.Train.FinalMetricDataList['test:f1'].Value"}, scope)


@pytest.mark.parametrize(
    ("kind", "left", "right", "holds"),
    [
        ("GreaterThanOrEqualTo", 0.7, 0.7, True),
        ("GreaterThan", 0.7, 0.7, False),
        ("LessThan", 0.6, 0.7, True),
        ("LessThanOrEqualTo", 0.8, 0.7, False),
        ("GreaterThanOrEqualTo", "10", 9, True),
        ("Equals", "a", "a", True),
    ],
)
def test_conditions_compare(scope: Scope, kind: str, left: Any, right: Any, holds: bool) -> None:
    assert expressions.holds({"Type": kind, "LeftValue": left, "RightValue": right}, scope) is holds


def test_conditions_combine(scope: Scope) -> None:
    true = {"Type": "In", "QueryValue": {"Get": "Parameters.Name"}, "Values": ["x", "y"]}
    false = {"Type": "Not", "Expression": true}
    assert expressions.holds({"Type": "Or", "Conditions": [false, true]}, scope)
    assert not expressions.holds(false, scope)


WRONG = ['Steps.A.b["k"]', "Steps.A.b['k'", "Steps.A.b[k]", "Steps..b", "Steps.A.", "", "Steps.A b", "Steps.A.b]"]


@pytest.mark.parametrize("path", WRONG)
def test_a_path_that_can_not_be_read_is_refused_before_and_while_it_runs(scope: Scope, path: str) -> None:
    with pytest.raises(InputError, match="is no path"):
        expressions.resolve({"Get": path}, scope)
    fail = {"Name": "A", "Type": "Fail", "Arguments": {"ErrorMessage": {"Get": path}}}
    problems = check.check({"Version": "2020-12-01", "Parameters": [], "Steps": [fail]})
    assert len(problems) == 1
    assert "is no path" in problems[0]


CONDITIONS: list[tuple[dict[str, Any], bool]] = [
    ({"Type": "Equals", "LeftValue": "a", "RightValue": "b"}, True),
    ({"Type": "Not", "Expression": {"Type": "Equals", "LeftValue": 1, "RightValue": 1}}, True),
    ({"Type": "Or", "Conditions": [{"Type": "In", "QueryValue": "a", "Values": ["a"]}]}, True),
    ({"Type": "LessThan", "LeftValue": "a", "RightValue": 1}, False),
]


@pytest.mark.parametrize(("condition", "right"), CONDITIONS)
def test_what_the_checker_lets_pass_the_engine_can_judge(scope: Scope, condition: dict[str, Any], right: bool) -> None:
    assert (not list(expressions.check_conditions([condition]))) is right
    if right:
        assert expressions.holds(condition, scope) in (True, False)


def test_what_can_not_be_compared_is_said(scope: Scope) -> None:
    with pytest.raises(InputError, match="can't be compared"):
        expressions.holds({"Type": "LessThan", "LeftValue": "a", "RightValue": 1}, scope)


def step(name: str, *needs: str, kind: str = "Processing", **arguments: Any) -> dict[str, Any]:
    values = [{"Get": f"Steps.{need}.X"} for need in needs]
    return {"Name": name, "Type": kind, "Arguments": {"values": values, **arguments}}


def test_a_step_needs_what_it_refers_to_what_it_depends_on_and_its_condition() -> None:
    nested = {"IfSteps": [step("Yes", "A")], "ElseSteps": [step("No")]}
    steps = [step("A"), step("B", "A") | {"DependsOn": ["C"]}, step("C"), step("If", "B", kind="Condition", **nested)]
    found = graph.nodes({"Steps": steps})
    assert {name: set(node.needs) for name, node in found.items()} == {
        "A": set(),
        "B": {"A", "C"},
        "C": set(),
        "If": {"B"},
        "Yes": {"A", "If"},
        "No": {"If"},
    }
    assert (found["Yes"].side, found["No"].side) == (True, False)
