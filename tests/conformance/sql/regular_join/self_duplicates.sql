-- equal rows are counted, not merged
SELECT a.bidder, a.price, b.bidder AS other
FROM bids AS a JOIN bids AS b ON a.auction = b.auction AND a.price = b.price
WHERE a.bidder <= b.bidder;
