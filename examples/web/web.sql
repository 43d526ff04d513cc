-- Web events: how many, and on how many pages, per user and hour.

CREATE TABLE web_events (
  user_id     STRING NOT NULL,
  event_type  STRING NOT NULL,
  `timestamp` BIGINT,                                        -- ms since 1970
  payload     ROW<page_url STRING, session_id STRING>,
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
);

CREATE TABLE hourly (user_id STRING, window_start TIMESTAMP(3), events BIGINT, pages BIGINT);

INSERT INTO hourly
SELECT user_id, window_start, COUNT(*), COUNT(DISTINCT payload.page_url)
FROM TABLE(TUMBLE(TABLE web_events, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY user_id, window_start, window_end;
