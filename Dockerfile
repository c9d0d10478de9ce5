# hvqbench on the CPU, without CUDA: some 2 GB.
#
#   docker build -t hvqbench .
#   docker run --rm -v "$PWD:/work" hvqbench run --codec jpeg,hypervq --dataset sample --metric psnr --limit 1
#
# Results, reports and your own catalogs are read and written in /work; downloads stay in the volume /cache:
#
#   docker run --rm -v "$PWD:/work" -v hvqbench-cache:/cache hvqbench report --html
FROM python:3.12-slim

ENV HVQBENCH_CACHE=/cache \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

# PyTorch first, in a layer of its own: it changes rarely and is most of the image.
COPY constraints.txt /tmp/
RUN pip install torch torchvision -c /tmp/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu

COPY . /tmp/hvqbench
RUN pip install /tmp/hvqbench -c /tmp/constraints.txt && rm -rf /tmp/hvqbench

# Not root, so that a mistake in a mounted folder stays small; --user "$(id -u)" writes as you. By number, so that a cluster
# that refuses root can tell.
RUN useradd --uid 1000 --create-home user && mkdir -p /cache /work && chmod 777 /cache /work
USER 1000
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["hvqbench"]
CMD ["--help"]
