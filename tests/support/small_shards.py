"""``amodal-data`` with shards of 100 scenes."""

from amodal_cli.data import main
from amodal_data.cache import build

build.SHARD = 100
main()
