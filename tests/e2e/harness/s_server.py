"""openssl s_server as www-data: one connection at a time, and keys for two names."""

from .server import Server
from .token import as_user

OPENSSL = "/usr/bin/openssl"


class OpensslServer(Server):
    """`options`: of s_server, besides."""

    def __init__(self, directory, env, sites, options=()):
        self.options = options
        super().__init__(directory, env, sites)

    def configure(self, sites):
        default, second = sites[0], sites[-1]
        self.arguments = (
            *("-cert", default.certificate, "-key", default.key),
            *("-servername", second.host, "-cert2", second.certificate, "-key2", second.key),
        )

    def command(self):
        accept = ("-accept", f"127.0.0.1:{self.port}", "-naccept", "1000000", "-WWW")
        return as_user("www-data", OPENSSL, "s_server", *accept, *self.arguments, *self.options)
