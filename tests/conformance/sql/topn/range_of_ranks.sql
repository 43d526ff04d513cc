-- ranks 2 to 3
-- key: auction
SELECT auction, bidder, price, rn
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, ts) AS rn FROM bids)
WHERE rn BETWEEN 2 AND 3;
