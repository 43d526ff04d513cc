-- functions below and above a window
SELECT UPPER(TRIM(s)) AS s, DATE_FORMAT(window_start, 'HH:mm:ss') AS w, CONCAT_WS('-', MIN(num), CAST(COUNT(*) AS STRING)) AS x
FROM TABLE(TUMBLE(TABLE texts, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE CHAR_LENGTH(s) > 3
GROUP BY UPPER(TRIM(s)), window_start, window_end;
