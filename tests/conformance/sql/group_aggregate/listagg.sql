-- texts put together, with a separator of one's own
-- key: auction
SELECT auction, LISTAGG(bidder) AS bidders, LISTAGG(bidder, '; ') AS spaced FROM bids GROUP BY auction;
