"""The simulated neighbourhood behaves as domain.md section 2 says, and the same way every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
import polars as pl
import pytest

from qanat.errors import ConfigError
from qanat.sim.households import (
    APPLIANCES,
    Neighbourhood,
    Rows,
    batches,
    bitmap,
    client_id,
    fleet_batches,
    messages,
    slices,
)

QUIET = Neighbourhood(households=60, seconds=1800, growth=0, swap=0.0)


def frame(hood: Neighbourhood, stream: str = "power", slice_ms: int = 1000) -> pl.DataFrame:
    parts = [getattr(part, stream) for part in slices(hood, slice_ms)]
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in Rows.__slots__}
    return pl.DataFrame(columns)


@pytest.fixture(scope="module")
def power() -> pl.DataFrame:
    return frame(QUIET)


@pytest.fixture(scope="module")
def states() -> pl.DataFrame:
    return frame(QUIET, "device_state")


def test_a_household_publishes_every_one_to_three_seconds_plus_jitter(power):
    pauses = power.sort("household", "cycle").select(pl.col("arrival").diff().over("household").drop_nulls())["arrival"]
    assert pauses.min() >= 1001
    assert pauses.max() <= 3100
    assert pauses.mean() == pytest.approx(2050.5, rel=0.01)


def test_the_timestamp_is_the_second_of_the_measurement(power):
    assert (power["timestamp"] == power["arrival"] // 1000).all()
    assert power.select("household", "timestamp").is_unique().all()


def test_appliances_are_redrawn_about_every_fifteen_cycles(states):
    # Two vectors in a row may be equal by chance, so changes are a little rarer than redraws.
    ordered = states.sort("household", "cycle")
    follows = pl.col("cycle").diff().over("household") == 1
    changed = ordered.select(((pl.col("states").diff().over("household") != 0) & follows).sum() / follows.sum()).item()
    assert 1 / 18 < changed < 1 / 14


def test_every_appliance_is_on_for_its_share(states):
    shares = bitmap(states["states"].to_numpy()).mean(axis=0)
    for appliance, share in zip(APPLIANCES, shares, strict=True):
        assert share == pytest.approx(appliance.share_on, abs=0.04), appliance.name


def test_the_total_is_the_inner_product_of_states_and_draws(power, states):
    both = power.join(states, on=["household", "cycle"], suffix="_s")
    for _, one in both.group_by("household"):
        on = bitmap(one["states"].to_numpy()).astype(float)
        solution, *_ = np.linalg.lstsq(on, one["consumption"].to_numpy(), rcond=None)
        np.testing.assert_allclose(on @ solution, one["consumption"].to_numpy(), atol=1e-6)
        seen = on.any(axis=0) & (np.linalg.matrix_rank(on) == on.shape[1])
        nominal = np.array([a.watts for a in APPLIANCES])
        np.testing.assert_array_less(np.abs(solution - nominal)[seen], nominal[seen] * 0.151 + 0.5)


def test_noise_blurs_the_total_without_touching_the_rest(power):
    noisy = frame(replace(QUIET, noise_w=5.0))
    errors = noisy["consumption"] - power["consumption"]
    assert errors.std() == pytest.approx(5.0, rel=0.05)
    assert noisy.drop("consumption").equals(power.drop("consumption"))


def test_labelled_and_unlabelled_stretches_last_16_to_50_cycles(power, states):
    labelled = power.join(states.select("household", "cycle", on=pl.lit(1)), on=["household", "cycle"], how="left")
    runs = (
        labelled.sort("household", "cycle")
        .with_columns(run=pl.col("on").is_not_null().rle_id().over("household"))
        .group_by("household", "run")
        .agg(cycles=pl.len(), on=pl.col("on").first())
    )
    inner = runs.filter((pl.col("run") > 0) & (pl.col("run") < pl.col("run").max().over("household")))
    assert inner["cycles"].min() == 16
    assert inner["cycles"].max() == 50
    assert inner["cycles"].mean() == pytest.approx(33, rel=0.04)
    assert labelled["on"].is_not_null().mean() == pytest.approx(0.5, abs=0.05)


def test_a_state_has_the_timestamp_of_its_reading(power, states):
    both = power.join(states, on=["household", "cycle"], suffix="_s")
    assert both.height == states.height
    assert (both["timestamp"] == both["timestamp_s"]).all()


def test_now_and_then_two_successive_messages_swap_places():
    rows = frame(replace(QUIET, swap=0.05)).sort("household", "arrival")
    steps = rows.select(pl.col("cycle").diff().over("household").drop_nulls())["cycle"]
    counted = Counter(steps.to_list())
    assert set(counted) == {1, 2, -1, 3}  # 1 3 2 4: two forward, one back, two forward; 3 is from one pair to the next
    assert counted[-1] / rows.height == pytest.approx(0.05 * 0.95, rel=0.1)
    delay = rows["arrival"] // 1000 - rows["timestamp"]
    assert delay.max() <= 4  # so a watermark of 5 s makes nobody late


def test_the_fleet_grows_by_a_hundred_every_five_seconds():
    first = frame(Neighbourhood(households=450, seconds=30)).group_by("household").agg(pl.col("arrival").min())
    joined = (first["arrival"] - Neighbourhood().start_ms) // 1000
    wave = first["household"] // 100
    assert first.height == 450
    assert ((joined >= wave * 5) & (joined <= wave * 5 + 2)).all()


def test_faults_come_in_the_shares_asked_for():
    hood = Neighbourhood(
        households=200, seconds=300, growth=0, late=0.02, duplicate=0.03, malformed=0.01, no_clock=0.25
    )
    rows = frame(hood)
    copies = rows.height - rows.select("household", "cycle").unique().height
    assert copies / rows.height == pytest.approx(0.03, rel=0.15)
    assert (rows["arrival"] // 1000 - rows["timestamp"] > 5).mean() == pytest.approx(0.02, rel=0.2)
    assert rows["malformed"].mean() == pytest.approx(0.01, rel=0.2)
    assert 1 - rows.group_by("household").agg(pl.col("clocked").first())["clocked"].mean() == pytest.approx(
        0.25, abs=0.1
    )
    assert (rows.group_by("household").agg(pl.col("clocked").n_unique())["clocked"] == 1).all()
    assert rows.sort("arrival")["arrival"].equals(rows["arrival"])


@pytest.mark.parametrize("slice_ms", [700, 10_000, 1_000_000])
def test_slices_may_be_cut_anywhere(slice_ms):
    hood = Neighbourhood(households=20, seconds=120, late=0.05, duplicate=0.05)
    assert frame(hood, "power", slice_ms).equals(frame(hood))
    assert frame(hood, "device_state", slice_ms).equals(frame(hood, "device_state"))


def test_a_household_does_not_depend_on_its_neighbours():
    small, large = (frame(Neighbourhood(households=n, seconds=120)) for n in (8, 150))
    assert small.filter(pl.col("household") == 7).equals(large.filter(pl.col("household") == 7))


def test_another_seed_is_another_neighbourhood_and_the_same_seed_the_same():
    one, same, other = (list(messages(Neighbourhood(households=5, seconds=20, seed=s))) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_both_forms_say_the_same():
    hood = Neighbourhood(households=30, seconds=120, duplicate=0.02, late=0.01, malformed=0.02, no_clock=0.2)
    said: dict[str, list[dict]] = {"power": [], "device_state": []}
    cut = 0
    for at_ms, client, topic, payload in messages(hood):
        stream, _, name = topic.partition("/")
        try:
            row = orjson.loads(payload)
        except orjson.JSONDecodeError:
            cut += 1
            continue
        assert row["client_id"] == client == name
        row.setdefault("timestamp", at_ms // 1000)
        said[stream].append(row)
    stored: dict[str, list[dict]] = {"power": [], "device_state": []}
    for stream, rows, _ in batches(hood):
        stored[stream] += rows.to_pylist()
    assert cut > 0
    assert stored == said


def test_messages_come_in_order_and_carry_no_clock_where_the_meter_has_none():
    hood = Neighbourhood(households=10, seconds=30, no_clock=1.0)
    sent = list(messages(hood))
    assert sorted(m.at_ms for m in sent) == [m.at_ms for m in sent]
    assert all("timestamp" not in orjson.loads(m.payload) for m in sent)
    assert sent[0].topic == f"power/{sent[0].client}"
    assert sent[0].client in {client_id(i) for i in range(10)}


def test_an_hour_of_the_street_has_the_size_that_the_bench_counts_on():
    rows = Counter()
    last = 0
    for stream, batch, at in fleet_batches(100, 3600):
        rows[stream] += batch.num_rows
        assert at >= last or stream == "device_state"
        last = at
    assert rows["power"] == pytest.approx(100 * 3600 / 2.0505, rel=0.01)
    assert rows["device_state"] == pytest.approx(rows["power"] / 2, rel=0.05)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="share between 0 and 1"):
        Neighbourhood(late=1.5)
    with pytest.raises(ConfigError, match="sends nothing"):
        Neighbourhood(households=0)
