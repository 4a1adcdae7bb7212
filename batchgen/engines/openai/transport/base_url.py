"""The address of a server: parsed, checked and safe to print."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from batchgen.errors import AddressError

_DOORS = ("/chat/completions", "/completions", "/models")
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """`scheme://host:port/path`, without a slash at the end."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine or in a private network, by its address or name alone."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return "." not in self.host or self.host.endswith(_LOCAL_SUFFIXES)
        return address.is_loopback or address.is_private or address.is_link_local


def parse_base_url(text: str) -> BaseUrl:
    """Parse the address.

    Raises:
        AddressError: it is not an http address, or contains more than host, port and path.
    """
    example = "Write scheme, host and path, such as http://127.0.0.1:8000/v1."
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise AddressError("is not a valid address", example) from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressError("expected an address that starts with http:// or https://", example)
    if parts.username or parts.password:
        hint = "Export the key as an environment variable and name that in model.api_key_env."
        raise AddressError("contains a user name or a password", hint)
    if parts.query or parts.fragment:
        raise AddressError("contains a ? or #; expected only host, port and path", example)
    path = parts.path.rstrip("/")
    for door in _DOORS:
        if path.endswith(door):
            hint = f"Leave out {door}."
            raise AddressError(f"ends in {door}; expected the path before it", hint)
    if any(not "!" <= c <= "~" for c in path):
        raise AddressError("has a path with spaces or letters that are not ASCII", example)
    return BaseUrl(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path)
