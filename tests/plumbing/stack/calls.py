"""Which AWS actions a function or a command needs: the client calls in all that it can reach, read as text."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
from botocore import xform_name

# Where the action is not called as the operation is ("Actions, resources, and condition keys for Amazon S3").
ACTIONS = {
    "s3:CompleteMultipartUpload": ["s3:PutObject"],
    "s3:CopyObject": ["s3:GetObject", "s3:PutObject"],
    "s3:CreateMultipartUpload": ["s3:PutObject"],
    "s3:DeleteObjects": ["s3:DeleteObject"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:HeadObject": ["s3:GetObject"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:ListObjects": ["s3:ListBucket"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:UploadPart": ["s3:PutObject"],
    "service-quotas:ListAWSDefaultServiceQuotas": ["servicequotas:ListAWSDefaultServiceQuotas"],
    "service-quotas:ListServiceQuotas": ["servicequotas:ListServiceQuotas"],
}
# what boto3 makes of several operations ("S3 transfers" in its guide)
MANAGED = {
    "copy": ["s3:HeadObject", "s3:CopyObject", "s3:AbortMultipartUpload"],
    "download_file": ["s3:HeadObject", "s3:GetObject"],
    "upload_file": ["s3:PutObject", "s3:AbortMultipartUpload"],
    "upload_fileobj": ["s3:PutObject", "s3:AbortMultipartUpload"],
}
NAMED_BY_TEXT = ("get_paginator", "get_waiter")
NO_CALLS = ("close", "exceptions", "meta", "can_paginate")
Place = tuple[str, str]  # a module and a name in it


class Unclear(Exception):
    """A call from which the service or the operation can't be read."""


@cache
def operations(service: str) -> dict[str, str]:
    """A client's methods and the operations that they call."""
    names = botocore.session.get_session().get_service_model(service).operation_names
    return {xform_name(name): name for name in names}


class Package:
    """A package that calls AWS through clients named by their services: `aws.s3.get_object()`, `ssm.put_…`.

    `by_text`: also through functions that are given service and operation as texts, `session.call("s3", "get_object")`.
    """

    def __init__(self, root: Path, folder: Path, services: tuple[str, ...], by_text: bool = False) -> None:
        self._name, self._services = folder.relative_to(root).as_posix().replace("/", "."), services
        self._by_text = by_text
        files = {file: file.relative_to(folder).with_suffix("") for file in folder.rglob("*.py")}
        self._trees = {
            ".".join(name.parts): ast.parse(file.read_text(encoding="utf-8")) for file, name in files.items()
        }
        self._defined = {place: node for module in self._trees for place, node in self._definitions(module)}
        self._imported = {module: dict(self._imports(module)) for module in self._trees}

    def actions(self, module: str, function: str = "handler") -> set[str]:
        """The IAM actions that the function can come to need. Raises Unclear."""
        places = self._reachable((module, function))
        found = {call for place in places for call in self._calls(place)}
        found |= {call for place in places if self._by_text for call in self._named_by_texts(place)}
        return {action for call in found for action in ACTIONS.get(call, [call])}

    def source(self, module: str, function: str) -> str:
        """The code of all that the function can reach, in one form."""
        return "\n".join(ast.unparse(self._defined[place]) for place in self._reachable((module, function)))

    def _definitions(self, module: str) -> Iterator[tuple[Place, ast.AST]]:
        for node in self._trees[module].body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield (module, node.name), node
            for target in getattr(node, "targets", [getattr(node, "target", None)]):
                if isinstance(target, ast.Name):
                    yield (module, target.id), node

    def _imports(self, module: str) -> Iterator[tuple[str, Place]]:
        """Names that stand for a module of the package, or for something in one."""
        for node in ast.walk(self._trees[module]):
            if not isinstance(node, ast.ImportFrom) or not f"{node.module}.".startswith(f"{self._name}."):
                continue
            source = (node.module or "").removeprefix(self._name).lstrip(".")
            for alias in node.names:
                whole = f"{source}.{alias.name}".lstrip(".")
                yield alias.asname or alias.name, (whole, "") if whole in self._trees else (source, alias.name)

    def _reachable(self, start: Place) -> set[Place]:
        found, ahead = set[Place](), [start]
        while ahead:
            place = ahead.pop()
            if place not in found:
                found.add(place)
                ahead.extend(self._mentions(place))
        return found

    def _mentions(self, place: Place) -> Iterator[Place]:
        module, imported = place[0], self._imported[place[0]]
        for node in ast.walk(self._defined[place]):
            named: Place | None = None
            if isinstance(node, ast.Name):
                named = imported.get(node.id, (module, node.id))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
                named = (imported[node.value.id][0], node.attr)
            if named in self._defined:
                yield named

    def _calls(self, place: Place) -> Iterator[str]:
        """service:Operation of every use of a client, called or handed on."""
        texts = {id(call.func): call.args for call in self._plain_calls(place)}
        for node in ast.walk(self._defined[place]):
            if not isinstance(node, ast.Attribute):
                continue
            where = f"{place[0]}.py line {node.lineno}: {ast.unparse(node)}"
            if service := self._service(node.value):
                method = node.attr
                if method in NAMED_BY_TEXT:
                    given = texts.get(id(node), [])
                    method = str(given[0].value) if given and isinstance(given[0], ast.Constant) else "?"
                yield from self._operations(service, method, where)
            elif id(node) in texts and not self._by_text and self._hides_a_call(place[0], node):
                raise Unclear(f"{where}: name the client by its service.")

    def _operations(self, service: str, method: str, where: str) -> list[str]:
        known = {name: [f"{service}:{its}"] for name, its in operations(service).items()}
        known |= MANAGED if service == "s3" else {}
        if method not in (*known, *NO_CALLS):
            raise Unclear(f"{where}: {method} is no operation of {service}.")
        return known.get(method, [])

    def _named_by_texts(self, place: Place) -> Iterator[str]:
        """Operations that a place names: of the services that it names, or of the only one that has them."""
        nodes = [node for node in ast.walk(self._defined[place]) if isinstance(node, ast.Constant)]
        named = {node.value for node in nodes if isinstance(node.value, str)}
        services = named & set(self._services)
        for name in named:
            having = [service for service in services or self._services if name in operations(service)]
            if having and not services and len(having) > 1:
                raise Unclear(f"{place}: {name} is an operation of {', '.join(having)}.")
            yield from (f"{service}:{operations(service)[name]}" for service in having)

    def _plain_calls(self, place: Place) -> Iterator[ast.Call]:
        for node in ast.walk(self._defined[place]):
            if isinstance(node, ast.Call):
                if ast.unparse(node.func) == "getattr" and self._service(node.args[0]):
                    raise Unclear(f"{place[0]}.py line {node.lineno}: {ast.unparse(node)}: name the method.")
                yield node

    def _service(self, node: ast.expr) -> str:
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        return name if name in self._services else ""

    def _hides_a_call(self, module: str, node: ast.Attribute) -> bool:
        known = isinstance(node.value, ast.Name) and node.value.id in self._imported[module]
        methods = {name for service in self._services for name in (*operations(service), *NAMED_BY_TEXT)}
        return not known and node.attr in methods
