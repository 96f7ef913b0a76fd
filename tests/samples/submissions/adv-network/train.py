import socket
import sys

PLACES = [("1.1.1.1", 443), ("8.8.8.8", 53), ("example.org", 80), ("pypi.org", 443)]
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
