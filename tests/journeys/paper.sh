#!/usr/bin/env bash
# A paper that is due on Friday, as docs/reports.md, docs/results.md and docs/what-may-i-compare.md have it: an own codec
# beside others, each at points of its own, a spec from what was measured, names and captions for the paper. Commands that
# are printed on the way are run as they stand.
set -euo pipefail

mkdir -p lab/codecs/ours
cat > lab/codecs/ours/codec.toml <<'TOML'
adapter = "pillow"
summary = "WebP under another name"
point_name = "quality"
points = [10, 40, 70, 90]

[options]
format = "WEBP"
lossless = false
method = 6
TOML
python - <<'PYTHON'
from pathlib import Path

from PIL import Image
from skimage import data

Path("pictures").mkdir()
for number in range(6):
    x, y = 40 * number, 30 * number
    Image.fromarray(data.astronaut()[y : y + 170, x : x + 170]).save(f"pictures/crop{number}.png")
PYTHON

# Points of their own; lpips is short for lpips-alex in every command.
hvqbench run --catalog lab --codec ours@10,40,70,90 --codec jpeg@5,20,50,80 --dataset pictures --metric psnr,lpips
hvqbench bd --anchor jpeg --metric lpips,psnr | tee bd.txt
grep -Eq 'ours needs .* bits than jpeg at equal lpips-alex on pictures \(6 images\) \[.* to .* %' bd.txt
hvqbench bd --anchor jpeg@20,50,80 --codec ours@40,70,90 --metric psnr
hvqbench comparable ours jpeg --metric lpips | tee comparable.txt
grep -q '^yes .*6 images' comparable.txt

# Where a number comes from, and the command that makes it again.
hvqbench why ours/40/crop3 --catalog lab > why.txt
bash -c "$(tail -n 1 why.txt)"

# A spec that holds what is in the store, and names for the paper.
hvqbench report --init paper.toml --catalog lab --anchor jpeg
sed -i 's/^"ours" = .*/"ours" = "Ours"/; s/^"lpips-alex" = .*/"lpips-alex" = "LPIPS"/; s/^"pictures" = .*/"pictures" = "Six crops"/' paper.toml
hvqbench report paper.toml --catalog lab --out paper
grep -q 'caption{Rate-distortion curves of .*Ours.* on Six crops (6 images): .*95 .*% interval' paper/rd-pictures.tex
grep -q 'BD-rate against jpeg.*On Six crops (6 images)' paper/bd-rate.tex
grep -q '^| Ours ' paper/report.md
grep -q '^pictures,lpips-alex,ours,jpeg,' paper/bd-rate.csv
test -s paper/rd-pictures.pdf

# What is missing is said with the command that makes it, which runs as it stands.
sed -i 's/^codecs = .*/codecs = ["ours", "jpeg", "jpeg-444"]/' paper.toml
hvqbench report paper.toml --catalog lab --out paper 2> missing.txt
command=$(sed -n 's/.*codec jpeg-444: no results; `\(.*\)` makes them/\1/p' missing.txt)
bash -c "$command --metric psnr,lpips --points 20,50"
hvqbench report paper.toml --catalog lab --out paper 2> nothing.txt
test ! -s nothing.txt

# A point that was a mistake goes, and only that.
hvqbench store rm --codec jpeg-444@20
hvqbench store rm --codec jpeg-444@20 --yes
hvqbench report --codec jpeg-444,jpeg@20,50 --metric psnr --catalog lab --out two
python - <<'PYTHON'
import csv

rows = list(csv.DictReader(open("two/points.csv")))
assert [(row["codec"], float(row["point"])) for row in rows] == [("jpeg", 20.0), ("jpeg", 50.0), ("jpeg-444", 50.0)], rows
PYTHON
