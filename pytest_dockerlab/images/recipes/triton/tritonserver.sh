#!/bin/sh
# The server's libraries must not be seen by the Python of the models: the search path is set for the server only.
LD_LIBRARY_PATH=/opt/tritonserver/lib exec /opt/tritonserver/bin/tritonserver --backend-directory=/opt/tritonserver/backends "$@"
