-- over all rows
SELECT bidder, price, rn
FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY price DESC, bidder) AS rn FROM bids)
WHERE rn <= 3;
