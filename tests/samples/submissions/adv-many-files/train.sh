# Empty files have no size; they use up the disk's inodes.
mkdir -p /lab/out && cd /lab/out
while :; do
    i=$((i + 1))
    mkdir "$i" && cd "$i"
    seq 2000 | xargs touch 2>/dev/null || exit 7
    cd ..
done
