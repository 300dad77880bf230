"""A C++ compiler that takes an instant, for tests of the cache of Stan programs."""

# Stands for g++: notes each compilation in a log, and "executables" print their compiler's name.
FAKE_COMPILER = """\
#!/bin/sh
if [ "$1" = "--version" ]; then echo "fake 1.0"; exit 0; fi
case "$*" in *program.hpp*|*main.cpp*) echo "$*" >> "{log}"; sleep 0.3;; esac
{then}
while [ $# -gt 0 ]; do if [ "$1" = "-o" ]; then out="$2"; fi; shift; done
printf '#!/bin/sh\\necho made by fake\\n' > "$out"
chmod +x "$out"
"""
