#!/usr/bin/env bash
# A gate in somebody else's repository, as docs/ci.md has it: an own codec and data set, a baseline, a pull request that
# changes nothing, and one that costs bits. What GitHub would run is taken from the workflow's own step "Compare";
# WORKFLOW names its file.
set -euo pipefail

git init --quiet .
mkdir -p codecs/mine datasets images/pictures
cat > codecs/mine/codec.toml <<'TOML'
summary = "JPEG behind its size"
point_name = "quality"
points = [10, 30, 50, 70]
TOML
cat > codecs/mine/adapter.py <<'PYTHON'
import io

import numpy as np
from PIL import Image

from hvqbench.codec import Bitstream, Codec, Stream


class Mine(Codec):
    version = "1"

    def encode(self, image, point):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(point))
        data = len(file.getvalue()).to_bytes(4) + file.getvalue()
        return Bitstream(data, {"header": Stream(4), "payload": Stream(len(data) - 4)})

    def decode(self, data):
        return np.asarray(Image.open(io.BytesIO(data[4:])).convert("RGB"))
PYTHON
cat > datasets/pictures.toml <<'TOML'
title = "Pictures"
summary = "two photographs of the scikit-image package"
licence = "see scikit-image"
images = 2
TOML
python - <<'PYTHON'
from PIL import Image
from skimage import data

for name, image in {"astronaut": data.astronaut(), "coffee": data.coffee()}.items():
    Image.fromarray(image[:128, :128]).save(f"images/pictures/{name}.png")
PYTHON

export HVQBENCH_DATA=images
hvqbench run --catalog . --codec mine --dataset pictures --metric psnr
hvqbench baseline save mine --catalog .
git add codecs datasets images reports

python - <<'PYTHON'
import os
from pathlib import Path

import yaml

steps = yaml.safe_load(Path(os.environ["WORKFLOW"]).read_text())["jobs"]["check"]["steps"]
Path("compare.sh").write_text(next(step["run"] for step in steps if step.get("name") == "Compare"))
PYTHON
export BASELINE=reports/baselines/mine.parquet TOLERANCE=0.5% CATALOG=. GITHUB_STEP_SUMMARY=summary.md

bash -e compare.sh | tee passed.txt
grep -Eq 'fine .*mine .*bytes at quality 10 \+0\.00 %' passed.txt
grep -q 'BD-rate gate' summary.md

sed -i 's/file.getvalue()$/file.getvalue() + bytes(200)/' codecs/mine/adapter.py
status=0
bash -e compare.sh | tee failed.txt || status=$?
test "$status" = 1
grep -Eq 'worse .*mine' failed.txt
grep -q 'mine' bd-rate.md
test -s bd-rate.xml
