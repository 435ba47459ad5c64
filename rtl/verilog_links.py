"""Names of what connects instances in emitted Verilog.

Amaranth names a net after the signal it was made for, and numbers what then has the same name: a module that holds
two streams gets ``o__payload`` and ``o__payload$43``, and it is chance which of them is its own port. Here a module's
ports get their declared names back, and a net that was named after an instance's port is called
``<instance>_<port>``, after the instance that drives it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["name_links"]

_TOKEN = re.compile(r"\\\S+ |(?<![\w'$.\\])[A-Za-z_]\w*")
_NAME = r"(\\\S+ |\w+)"
_MODULE = re.compile(rf"^module {_NAME}\(")
_PORT = re.compile(rf"^  (input|output) (?:\[-?\d+:-?\d+\] )?{_NAME};", re.MULTILINE)
_INSTANCE = re.compile(rf"^  {_NAME} +(?:#\(.*?\) )?{_NAME} ?\(\n(.*?)^  \);", re.MULTILINE | re.DOTALL)
_CONNECTION = re.compile(rf"^(    \.){_NAME}( ?\()(.*)(\),?)$", re.MULTILINE)
_SINGLE = re.compile(_NAME)
_NUMBER = re.compile(r"\$\d+$")


@dataclass(frozen=True)
class _Instance:
    """One instance: module, name, and the net of each port that is connected to a whole net."""

    module: str
    name: str
    nets: dict[str, str]


def name_links(modules: list[str]) -> list[str]:
    """The modules with renamed ports and nets; identifiers may be escaped. The first module keeps its ports."""
    directions = {_name_of(text): {_bare(name): way for way, name in _PORT.findall(text)} for text in modules}
    nets = [_net_names(text, directions) for text in modules]
    ports = {
        _name_of(text): _port_names(text, directions[_name_of(text)], renamed)
        for text, renamed in zip(modules[1:], nets[1:], strict=True)
    }
    return [
        _rename(text, {**renamed, **ports.get(_name_of(text), {})}, ports)
        for text, renamed in zip(modules, nets, strict=True)
    ]


def _net_names(text: str, directions: dict[str, dict[str, str]]) -> dict[str, str]:
    """New names of nets that are named after a port they are connected to."""
    own = directions[_name_of(text)]
    taken = _identifiers(text)
    links: dict[str, list[tuple[bool, str, str]]] = {}
    for instance in _instances(text):
        for port, net in instance.nets.items():
            drives = directions.get(instance.module, {}).get(port) == "output"
            links.setdefault(net, []).append((drives, instance.name, _unnumbered(port)))
    names: dict[str, str] = {}
    for net, ends in links.items():
        if net in own or all(port != _unnumbered(net) for _, _, port in ends):
            continue
        _, instance_name, port = max(ends, key=lambda end: end[0])
        wanted = f"{instance_name}_{port}"
        if wanted not in taken:
            taken.add(wanted)
            names[net] = wanted
    return names


def _port_names(text: str, own: dict[str, str], renamed: dict[str, str]) -> dict[str, str]:
    """Declared names of the ports that carry a number, unless something else in the module has the name."""
    taken = (_identifiers(text) - set(renamed)) | set(renamed.values())
    names: dict[str, str] = {}
    for port in own:
        wanted = _unnumbered(port)
        if wanted != port and wanted not in taken:
            taken.add(wanted)
            names[port] = wanted
    return names


def _rename(text: str, names: dict[str, str], ports: dict[str, dict[str, str]]) -> str:
    """Apply `names` to the module's own identifiers, and the new `ports` to its instances."""

    def connections(match: re.Match[str]) -> str:
        instance_ports = ports.get(_bare(match[1]), {})

        def connection(line: re.Match[str]) -> str:
            new = instance_ports.get(_bare(line[2]))
            return line[0] if new is None else f"{line[1]}{new}({line[4]}{line[5]}"

        return _CONNECTION.sub(connection, match[0])

    def token(match: re.Match[str]) -> str:
        root, dot, rest = _bare(match[0]).partition(".")
        if root not in names:
            return match[0]
        if dot:
            return f"\\{names[root]}.{rest} "
        following = match.string[match.end() : match.end() + 1]
        separate = match[0].endswith(" ") and (following.isalnum() or following in ("_", "\\", "<", "=", ":"))
        return names[root] + (" " if separate else "")

    return _TOKEN.sub(token, _INSTANCE.sub(connections, text))


def _instances(text: str) -> Iterator[_Instance]:
    for match in _INSTANCE.finditer(text):
        nets = {
            _bare(port): _bare(net)
            for _, port, _, net, _ in _CONNECTION.findall(match[3])
            if _SINGLE.fullmatch(net)
        }
        yield _Instance(_bare(match[1]), _bare(match[2]), nets)


def _identifiers(text: str) -> set[str]:
    """Everything that has a name in the module, without the fields of structures."""
    return {_bare(token).partition(".")[0] for token in _TOKEN.findall(text)}


def _name_of(text: str) -> str:
    match = _MODULE.match(text)
    if match is None:
        raise ValueError(f"unexpected module header: {text.splitlines()[0]!r}")
    return _bare(match[1])


def _bare(identifier: str) -> str:
    """The identifier without the signs of an escape."""
    return identifier[1:-1] if identifier.startswith("\\") else identifier


def _unnumbered(identifier: str) -> str:
    return _NUMBER.sub("", identifier)
