"""make demo-bill, with fewer questions an hour: what it says is so, by the clients' account, the ledger's and the budget's."""

import decimal
import json
import subprocess

from process import ROOT

BUDGET = decimal.Decimal("5.00")


def test_the_wednesday_script():
    said = json.loads(subprocess.run([ROOT / "tests" / "demo" / "bill", "--per-hour", "15", "--json"], check=True,
                                     stdout=subprocess.PIPE).stdout, parse_float=decimal.Decimal)
    straight, pavise = said["straight"], said["pavise"]
    assert straight["asked"] == straight["calls"] == pavise["asked"] == [360] * 5
    for day in range(5):
        assert pavise["cached"][day] + pavise["calls"][day] + pavise["refused"][day] == 360
        assert pavise["refused"][day] > 0
        assert decimal.Decimal(straight["usd"][day]) > 4 * BUDGET
        assert BUDGET * 9 / 10 < decimal.Decimal(pavise["usd"][day]) <= BUDGET
    assert [decimal.Decimal(row["cost_usd"]) for row in said["ledger"]] == [decimal.Decimal(u) for u in pavise["usd"]]
    assert sum(row["requests"] for row in said["ledger"]) == sum(pavise["requests"])
