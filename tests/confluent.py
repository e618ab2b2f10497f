"""A stand-in for Confluent Schema Registry 7.9, which no package registry serves; in memory, over real sockets.

It is strict where Confluent's differs from Apicurio's, and each rule names its source: [api] is Confluent's "Schema
Registry API Reference", [deletion] its "Schema Deletion Guidelines", [source] its public source of 7.x
(KafkaSchemaRegistry, SchemasResource, ContextFilter), [7.9.2] what a registry of that release was seen to do.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from contract.avro_schema import SchemaError, Type, parse
from contract.compatibility import Level, compare, required_reads

DEFAULT_CONTEXT = "."
READ_ONLY = {"READONLY", "READONLY_OVERRIDE"}
_ORDER = ("type", "name", "namespace", "doc", "fields", "items", "values", "symbols", "size", "default")


class ApiError(Exception):
    """What is answered instead: status, error code, message."""


@dataclass(frozen=True)
class Stored:
    """A schema under an id: the same text with other references, metadata or rules has another one [7.9.2, source]."""

    text: str
    kind: str = "AVRO"
    references: tuple[tuple[str, str, int], ...] = ()
    metadata: str = "null"
    rules: str = "null"

    def shown(self) -> dict[str, Any]:
        """Return what a GET shows of it; what is not there is left out [api]."""
        names = [dict(zip(("name", "subject", "version"), one, strict=True)) for one in self.references]
        shown: dict[str, Any] = {"schema": self.text} | ({"references": names} if names else {})
        shown |= {} if self.kind == "AVRO" else {"schemaType": self.kind}
        extra = {"metadata": json.loads(self.metadata), "ruleSet": json.loads(self.rules)}
        return shown | {name: value for name, value in extra.items() if value is not None}


@dataclass
class Version:
    """One version of a subject."""

    number: int
    id: int
    deleted: bool = False


@dataclass
class Registry:
    """What a registry holds."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    schemas: dict[tuple[str, int], Stored] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=lambda: {"": "BACKWARD"})  # "" is the global one [api]
    modes: dict[str, str] = field(default_factory=lambda: {"": "READWRITE"})
    asked: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    last_id: int = 0
    lacks: str = ""
    """A pattern of paths that are not there, as at an older release, or behind a proxy that keeps them back."""

    def answer(self, method: str, target: str, body: Any) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case a route
        """Return the JSON of an answer; raises ApiError."""
        url = urlsplit(target)
        query = {name: values[-1].lower() == "true" for name, values in parse_qs(url.query).items()}
        path = [unquote(part) for part in url.path.strip("/").split("/")]
        context = ""
        if path[0] == "contexts" and len(path) > 2:
            # As if each subject in the path were of that context, and so is every id [source].
            context, path = f":{path[1]}:", path[2:]
            place = path.index("subjects") + 1 if "subjects" in path else 1
            if path[place - 1] in {"subjects", "config", "mode"} and len(path) >= place:
                path[place:] = [context + (path[place] if len(path) > place else ""), *path[place + 1 :]]
        with self.lock:
            self.asked.append(f"{method} {target}")
            if self.lacks and re.search(self.lacks, url.path):
                raise ApiError(404, 404, "HTTP 404 Not Found")
            match method, path:
                case "GET", ["subjects"]:
                    return [name for name in self.versions if self._numbers(name, deleted=query.get("deleted", False))]
                case "GET", ["subjects", name, "versions"]:
                    return self._listed(name, deleted=query.get("deleted", False))
                case "GET", ["subjects", name, "versions", number]:
                    return self._version(name, number, deleted=query.get("deleted", False))
                case "POST", ["subjects", name]:
                    return self._lookup(name, body, deleted=query.get("deleted", False))
                case "POST", ["subjects", name, "versions"]:
                    return {"id": self.register(name, body)}
                case "DELETE", ["subjects", name]:
                    return self._delete_subject(name, permanent=query.get("permanent", False))
                case "DELETE", ["subjects", name, "versions", number]:
                    return self._delete(name, int(number), permanent=query.get("permanent", False))
                case "GET", ["schemas", "ids", number]:
                    return self._by_id(number, context).shown()
                case "GET", ["schemas", "ids", number, "versions"]:
                    return self._holders(number, context, deleted=query.get("deleted", False))
                case "GET", ["config", *name]:
                    return {"compatibilityLevel": self._own(self.levels, name, 40408, "compatibility")}
                case "PUT", ["config", *name]:
                    return self._set_level("".join(name), body)
                case "GET", ["mode", *name]:
                    return {"mode": self._own(self.modes, name, 40409, "mode")}
                case "PUT", ["mode", *name]:
                    self.modes["".join(name)] = body["mode"]
                    return {"mode": body["mode"]}
                case "POST", ["compatibility", "subjects", name, "versions", *_]:
                    return {"is_compatible": self._is_compatible(name, self._parsed(self._stored(body)))}
        raise ApiError(404, 404, "HTTP 404 Not Found")

    def register(self, name: str, body: Any) -> int:
        """Return the id under which a schema is registered now.

        In READONLY nothing is, in IMPORT only what comes with its id: 422 [source, checkRegisterMode]. What comes
        without metadata or rules gets those of the newest version that is not deleted [source,
        maybeSetMetadataRuleSet]. A version that is deleted softly comes back as a new version with the id that it had,
        and the old one is gone [7.9.2; source, register]; one that was deleted for good gets a new id [7.9.2].
        """
        mode, live, context = self._mode(name), self._numbers(name), _context(name)
        for version in live:  # before the mode is looked at [source, registerOrForward]
            if self.schemas[context, version.id] == self._stored(body):
                return version.id
        if mode in READ_ONLY or (mode == "IMPORT") != ("id" in body):
            raise ApiError(422, 42205, f"Subject {name} is not in read-write mode")
        if live and mode != "IMPORT":
            newest = self.schemas[context, live[-1].id]
            kept = {"metadata": json.loads(newest.metadata), "ruleSet": json.loads(newest.rules)}
            body = body | {word: body.get(word) or value for word, value in kept.items()}
        stored = self._stored(body)
        for version in live:
            if self.schemas[context, version.id] == stored:
                return version.id
        if mode != "IMPORT" and not self._is_compatible(name, self._parsed(stored)):
            raise ApiError(409, 409, "Schema being registered is incompatible with an earlier schema")
        known = self.versions.setdefault(name, [])
        number = body.get("version") or max((one.number for one in known), default=0) + 1
        ids = [id_ for (where, id_), one in self.schemas.items() if where == context and one == stored]
        id_ = int(body.get("id") or next(iter(ids), self.last_id + 1))
        self.last_id = max(self.last_id, id_)
        self.schemas[context, id_] = stored
        known[:] = [*(one for one in known if not (one.deleted and one.id == id_)), Version(number, id_)]
        return id_

    def _stored(self, body: Any) -> Stored:
        references = tuple((one["name"], one["subject"], one["version"]) for one in body.get("references") or ())
        extra = (json.dumps(body.get(name), sort_keys=True) for name in ("metadata", "ruleSet"))
        kind = body.get("schemaType") or "AVRO"
        stored = Stored(body["schema"], kind, references, *extra)
        if kind == "AVRO":
            self._parsed(stored)
            stored = Stored(canonical(json.loads(stored.text)), kind, references, stored.metadata, stored.rules)
        return stored

    def _parsed(self, stored: Stored) -> Type | None:
        """Parse a schema with what it refers to, which may be deleted for the moment; 422 for what is none [api]."""
        if stored.kind != "AVRO":
            return None
        try:
            return parse(json.loads(stored.text), self._references(stored))
        except (SchemaError, ValueError, ApiError) as error:
            raise ApiError(422, 42201, f"Invalid schema: {error}") from None

    def _references(self, stored: Stored) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _, subject, number in stored.references:
            used = self._find(subject, str(number), deleted=True)
            one = self.schemas[_context(subject), used.id]
            found |= self._references(one) | {f"{subject}/{number}": json.loads(one.text)}
        return found

    def _numbers(self, name: str, *, deleted: bool = False) -> list[Version]:
        return [one for one in self.versions.get(name, ()) if deleted or not one.deleted]

    def _listed(self, name: str, *, deleted: bool) -> list[int]:
        """Deleted versions only with `deleted=true`, and 404 where none is left [api]."""
        if not (found := self._numbers(name, deleted=deleted)):
            raise ApiError(404, 40401, f"Subject '{name}' not found.")
        return [one.number for one in found]

    def _find(self, name: str, number: str, *, deleted: bool) -> Version:
        self._listed(name, deleted=deleted)
        found = self._numbers(name, deleted=deleted)
        if number in {"latest", "-1"}:
            return found[-1]
        if not re.fullmatch(r"[1-9]\d{0,9}", number):
            raise ApiError(422, 42202, f"The specified version '{number}' is not a valid version id.")
        for one in found:
            if one.number == int(number):
                return one
        raise ApiError(404, 40402, f"Version {number} not found.")

    def _version(self, name: str, number: str, *, deleted: bool) -> dict[str, Any]:
        found = self._find(name, number, deleted=deleted)
        shown = self.schemas[_context(name), found.id].shown()
        return {"subject": name, "version": found.number, "id": found.id, **shown}

    def _lookup(self, name: str, body: Any, *, deleted: bool) -> dict[str, Any]:
        """Only the same text with the same references, metadata and rules is found [7.9.2]."""
        self._listed(name, deleted=deleted)
        stored = self._stored(body)
        for one in reversed(self._numbers(name, deleted=deleted)):
            if self.schemas[_context(name), one.id] == stored:
                return {"subject": name, "version": one.number, "id": one.id, **stored.shown()}
        raise ApiError(404, 40403, "Schema not found")

    def _by_id(self, number: str, context: str) -> Stored:
        """An id is one of the context in the URL, else of the default one [source, getSchemaKeyUsingContexts]."""
        if not re.fullmatch(r"\d{1,10}", number) or int(number) >= 2**31:  # no Java int, so the path matches nothing
            raise ApiError(404, 404, "HTTP 404 Not Found")
        found = self.schemas.get((_context(context), int(number)))
        if found is None:
            raise ApiError(404, 40403, f"Schema {number} not found")
        return found

    def _holders(self, number: str, context: str, *, deleted: bool) -> list[dict[str, Any]]:
        """Return subject and version of each that has this id, deleted ones only with `deleted=true` [api]."""
        self._by_id(number, context)
        return [
            {"subject": name, "version": one.number}
            for name in self.versions
            for one in self._numbers(name, deleted=deleted)
            if one.id == int(number) and _context(name) == _context(context)
        ]

    def _delete(self, name: str, number: int, *, permanent: bool) -> int:
        """Delete a version, for good only what is deleted already [deletion]; an id goes with its last version [7.9.2].

        Not one that another schema refers to [api, 42206].
        """
        self._writable(name)
        found = self._find(name, str(number), deleted=permanent)
        if any((name, number) == used[1:] for one in self.schemas.values() for used in one.references):
            raise ApiError(422, 42206, f"One or more references exist to the schema {name} version {number}")
        if permanent and not found.deleted:
            raise ApiError(404, 40407, f"Subject '{name}' Version {number} was not deleted first")
        found.deleted = True
        if permanent:
            self.versions[name].remove(found)
            context = _context(name)
            held = {one.id for each, all_ in self.versions.items() if _context(each) == context for one in all_}
            self.schemas = {key: one for key, one in self.schemas.items() if key[0] != context or key[1] in held}
        return number

    def _delete_subject(self, name: str, *, permanent: bool) -> list[int]:
        """Delete all of a subject's versions, and its level with them [api]."""
        numbers = self._listed(name, deleted=permanent)
        if permanent and self._numbers(name):
            raise ApiError(404, 40405, f"Subject '{name}' was not deleted first")
        self.levels.pop(name, None)
        return [self._delete(name, number, permanent=permanent) for number in numbers]

    def _own(self, values: dict[str, str], name: Sequence[str], code: int, what: str) -> str:
        """404 where a subject has none of its own [api, 7.9.2]."""
        if (key := "".join(name)) not in values:
            raise ApiError(404, code, f"Subject '{key}' does not have subject-level {what} configured")
        return values[key]

    def _set_level(self, name: str, body: Any) -> dict[str, Any]:
        self._writable(name)
        if body["compatibility"] not in {*Level}:
            raise ApiError(422, 42203, "Invalid compatibility level")
        self.levels[name] = body["compatibility"]
        return {"compatibility": body["compatibility"]}

    def _mode(self, name: str) -> str:
        """Return the mode in force: READONLY_OVERRIDE for all is above a subject's own [source]."""
        everywhere = self.modes[""]
        return everywhere if everywhere == "READONLY_OVERRIDE" else self.modes.get(name, everywhere)

    def _writable(self, name: str) -> None:
        if self._mode(name) in READ_ONLY:
            raise ApiError(422, 42205, f"Subject {name} is in read-only mode")

    def _is_compatible(self, name: str, candidate: Type | None) -> bool:
        """Judge by the versions that are not deleted, in the order in which they were registered [api]."""
        level = Level(self.levels.get(name, self.levels[""]))
        held = [self._parsed(self.schemas[_context(name), one.id]) for one in self._numbers(name)]
        if candidate is None or None in held:
            return level == Level.NONE or not held
        return not any(compare(reader, writer) for reader, writer in required_reads(level, held, candidate))  # type: ignore[arg-type]


def canonical(schema: Any) -> str:
    """Return a schema as Java Avro writes it: its own words in its own order, dotted names split [7.9.2]."""
    return json.dumps(_ordered(schema, ""), separators=(",", ":"), ensure_ascii=False)


def _ordered(schema: Any, namespace: str) -> Any:
    if isinstance(schema, list):
        return [_ordered(one, namespace) for one in schema]
    if not isinstance(schema, dict):
        return schema.removeprefix(f"{namespace}.") if isinstance(schema, str) and namespace else schema
    schema, around = dict(schema), namespace
    if isinstance(schema.get("name"), str) and isinstance(schema.get("type"), str):
        full = schema["name"] if "." in schema["name"] else f"{schema.get('namespace', namespace)}.{schema['name']}"
        namespace, _, schema["name"] = full.rpartition(".")
        schema.pop("namespace", None)
        schema |= {"namespace": namespace} if namespace != around else {}
    if isinstance(schema.get("fields"), list):
        schema["fields"] = [_field(one, namespace) for one in schema["fields"]]
    schema |= {name: _ordered(schema[name], namespace) for name in ("items", "values") if name in schema}
    if set(schema) == {"type"}:
        return _ordered(schema["type"], namespace)
    return {name: schema[name] for name in (*_ORDER, *schema) if name in schema}


def _field(schema: dict[str, Any], namespace: str) -> dict[str, Any]:
    schema = schema | {"type": _ordered(schema["type"], namespace)}
    return {name: schema[name] for name in ("name", "type", "doc", "default", *schema) if name in schema}


def _context(subject: str) -> str:
    """Return the context of `:.context:subject` [source]."""
    match = re.match(r":(\.[^:]*):", subject)
    return match[1] if match else DEFAULT_CONTEXT


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def _reply(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            status, found = 200, self.registry.answer(self.command, self.path, body)
        except ApiError as error:
            status, code, message = error.args
            found = {"error_code": code, "message": message}
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _reply  # noqa: N815 - the names are the standard library's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def confluent_registry() -> Iterator[tuple[str, Registry]]:
    """Serve an empty registry; gives its URL, and what it holds."""
    registry = Registry()
    handler = type("Handler", (_Handler,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", registry
        finally:
            server.shutdown()
