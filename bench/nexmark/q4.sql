-- The mean price at which auctions of a category were won.

CREATE TABLE results (category BIGINT, price BIGINT) WITH (${SINK});

INSERT INTO results
SELECT category, AVG(won)
FROM (
  SELECT a.id, a.category, MAX(b.price) AS won
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.`dateTime` BETWEEN a.`dateTime` AND a.expires
  GROUP BY a.id, a.category
)
GROUP BY category;
