"""Addresses of a Dask cluster."""

import pytest

from amodal_data.cache.parallel import run_parallel
from amodal_data.errors import SelectionError


@pytest.mark.parametrize(
    "address", ["file:///x", "http://a:1", "ucx://a:1", "inproc://x", "tcp://", "a b:1", "x.json", ""]
)
def test_addresses_that_are_none_are_refused_at_once(address):
    """distributed itself refuses them too, and then keeps the process from ending."""
    with pytest.raises(SelectionError, match=r"no address of a Dask scheduler(.|\n)*tcp://HOST:PORT"):
        list(run_parallel(len, [[1]], jobs=1, scheduler=address))
