-- How many bids a bidder makes without a pause of 10 seconds.

CREATE TABLE results (bidder BIGINT, num BIGINT, since TIMESTAMP(3), until TIMESTAMP(3)) WITH (${SINK});

INSERT INTO results
SELECT bidder, COUNT(*), window_start, window_end
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end;
