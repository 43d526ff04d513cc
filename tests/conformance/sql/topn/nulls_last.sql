-- NULLS LAST
-- key: auction
SELECT auction, bidder, price
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price ASC NULLS LAST) AS rn FROM bids)
WHERE rn <= 2;
