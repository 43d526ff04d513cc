-- ORDER BY with LIMIT is a Top-N, too
SELECT bidder, price FROM bids ORDER BY price DESC, bidder LIMIT 3;
