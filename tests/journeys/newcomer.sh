#!/usr/bin/env bash
# Five minutes with the README, in an empty folder, with `hvqbench` on the path: its commands, on two small pictures
# instead of Kodak. Every command must run as it stands; what it is for is checked in what it leaves.
set -euo pipefail

python - <<'PYTHON'
from pathlib import Path

from PIL import Image
from skimage import data

Path("pictures").mkdir()
for name, image in {"astronaut": data.astronaut(), "coffee": data.coffee(), "chelsea": data.chelsea()}.items():
    Image.fromarray(image[:192, 160:352]).save(f"pictures/{name}.png")
Image.fromarray(data.astronaut()[:250, :250]).save("photo.png")
PYTHON

hvqbench ls codecs
hvqbench ls codecs 'hypervq*' --ready
hvqbench run --codec hypervq,huffman-vq --points 0,1.6,3.2 --dataset pictures --metric psnr,lpips-alex
hvqbench run --codec jpeg --points 5,10,30 --dataset pictures --metric psnr,lpips-alex
hvqbench bd --anchor huffman-vq --metric lpips-alex
hvqbench report --out report --html
grep -q 'class="finding"' report/report.html
grep -q 'Opens on .*, the median of 3 images' report/report.html
hvqbench compare hypervq jpeg --dataset pictures --image astronaut
test -s compare.png
hvqbench match --codec jpeg,webp --bpp 0.5 --dataset pictures --limit 1 --out match
test -s match/astronaut/webp.png
hvqbench compress photo.png photo.vq --codec hypervq --bpp 0.03
hvqbench decompress photo.vq photo-decoded.png --codec hypervq
test -s photo-decoded.png
hvqbench doctor jpeg
