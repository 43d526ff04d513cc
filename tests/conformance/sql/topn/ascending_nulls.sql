-- ascending: NULL comes first
-- key: auction
SELECT auction, bidder, price, rn
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price ASC) AS rn FROM bids)
WHERE rn <= 2;
