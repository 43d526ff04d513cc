-- Bids of a middling price in euro, the time of day, and how often their text has a c.

CREATE TABLE results (
  auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time STRING, `dateTime` TIMESTAMP(3), extra STRING, c BIGINT
) WITH (${SINK});

INSERT INTO results
SELECT auction, bidder, 0.908 * price,
       CASE
         WHEN HOUR(`dateTime`) BETWEEN 8 AND 18 THEN 'dayTime'
         WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime'
         ELSE 'otherTime'
       END,
       `dateTime`, extra,
       CAST(CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra, 'c', '')) AS BIGINT)
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
