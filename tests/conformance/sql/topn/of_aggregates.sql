-- over an updating aggregate
SELECT bidder, total, rn
FROM (
  SELECT *, ROW_NUMBER() OVER (ORDER BY total DESC, bidder) AS rn
  FROM (SELECT bidder, SUM(price) AS total FROM bids GROUP BY bidder)
)
WHERE rn <= 3;
