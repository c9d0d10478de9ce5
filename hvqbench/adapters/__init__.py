"""One file for each way to reach a codec; ``docs/codecs.md`` shows how to write another."""
