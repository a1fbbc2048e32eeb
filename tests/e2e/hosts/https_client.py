"""Fetches /page:  https_client.py PORT HOST VERSION CA [CERTIFICATE KEY]"""

import socket
import ssl
import sys

port, host, version, authority, *own = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.minimum_version = context.maximum_version = {
    "1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3
}[version]
if own:
    context.load_cert_chain(*own)
with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=host) as connection:
        connection.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        print(b"".join(iter(lambda: connection.recv(4096), b"")).decode())
