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
# scipy is there for LightGBM, which imports scipy.sparse only: 95 MB less to pull for every job.
# A test keeps the components from importing more of it; delete these lines and that test to have it whole.
if [ -d scipy ]; then
  find scipy -mindepth 1 -maxdepth 1 -type d ! -name _lib ! -name sparse -exec rm -rf {} +
  rm -rf scipy.libs
fi
python -m compileall -q .
