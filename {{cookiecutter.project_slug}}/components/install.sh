# Used while an image is built, never in it: the locked packages, and the Debian packages named as arguments.
set -eu
if [ $# -gt 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
  rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
fi
pip --python /opt/packages/bin/python --disable-pip-version-check \
  install --quiet --no-deps --root-user-action=ignore --require-hashes --only-binary=:all: --no-compile --requirement /lock.txt
cd /opt/packages/lib/python3*/site-packages
find . -depth -type d -name tests -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.pxd' -o -name '*.h' -o -name '*.a' \) -delete
# LightGBM needs of scipy its scipy.sparse only: without the rest there is 95 MB less to pull for every job. Where any
# other package asks for scipy too, it stays whole.
python - <<'PYTHON'
import re, shutil
from importlib.metadata import distributions
from pathlib import Path
asking = {each.name for each in distributions(path=["."])
          for needed in each.requires or [] if re.match(r"scipy\b", needed) and "extra ==" not in needed}
if asking == {"lightgbm"}:
    rest = [each for each in Path("scipy").iterdir() if each.is_dir() and each.name not in ("_lib", "sparse")]
    for folder in [*rest, Path("scipy.libs")]:
        shutil.rmtree(folder, ignore_errors=True)
PYTHON
python -m compileall -q .
