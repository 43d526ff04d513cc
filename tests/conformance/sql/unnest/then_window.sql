-- unnested rows in windows
CREATE VIEW tagged AS SELECT id, ts, tag FROM bags CROSS JOIN UNNEST(tags) AS t (tag);
SELECT tag, window_start, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE tagged, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY tag, window_start, window_end;
