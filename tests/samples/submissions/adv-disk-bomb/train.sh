# At most 600 MB, a bit slower than a disk could: this is a test.
for part in $(seq 60); do
  dd if=/dev/zero of=/app/$part bs=1M count=10 2>/dev/null
  sleep 0.2
done
sleep 600
