import socket
import sys

PLACES = [
    (host, port)
    for host in ("172.17.0.1", "host.docker.internal", "gateway.docker.internal", "169.254.169.254", "10.0.2.2")
    for port in (22, 80, 2375, 2376)
]
reached = []
for host, port in PLACES:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError as error:
        print(f"{host}:{port} {error}")
    else:
        reached.append(f"{host}:{port}")
others = [name for _, name in socket.if_nameindex() if name not in ("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0",
          "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0")]
if reached or others:
    sys.exit(f"reached {reached}, interfaces {others}")
print("nothing reached")
