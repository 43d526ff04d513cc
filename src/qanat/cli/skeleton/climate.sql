-- A pipeline: what climate says about every 10 seconds of each sensor. It is Flink SQL, and runs while `qanat up` does.
-- A window closes, and its row appears, when readings have gone 2 seconds past its end.

INSERT INTO climate
SELECT sensor, window_start, window_end, COUNT(*), MIN(temperature), AVG(temperature), MAX(temperature)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY sensor, window_start, window_end;
