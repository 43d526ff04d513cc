-- fails: OVER is ordered by one time attribute
SELECT auction, bidder FROM (SELECT *, RANK() OVER (PARTITION BY auction ORDER BY price DESC) AS rn FROM bids) WHERE rn <= 2;
