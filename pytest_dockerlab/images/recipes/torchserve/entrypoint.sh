#!/bin/bash
# Behaves like the entry point of the official image, its faults included, because students meet them there:
# - `torchserve --start` returns at once and the server runs on in the background, so whatever the command was, the
#   container then waits for ever. A dead server does not end it.
# - a command's words are joined and read by the shell once more: the shell form of CMD loses its quotes.
set -e
case "${1:-}" in
  serve) torchserve --start --ts-config /home/model-server/config.properties --disable-token-auth ;;
  *) eval "$*" ;;
esac
exec tail -f /dev/null
