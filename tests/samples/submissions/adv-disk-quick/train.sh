dd if=/dev/zero of=/app/big bs=1M count=100 2>/dev/null
