-- fails: `ts` is not a time attribute
SELECT window_start, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE readings_plain, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
