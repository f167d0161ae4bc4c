"""Queries that no model trained on a log can answer: they need live data, private data or a person's own situation.

Every version is asked them before it is published, and an answer above its threshold counts as wrong. They are never
trained on.
"""

QUERIES: tuple[str, ...] = tuple(
    """\
What time is it right now in Lisbon?
will it rain this afternoon
how cold is it outside at the moment
Which team won the final on Sunday?
what's the score of the game
How much is a barrel of oil today?
exchange rate of the dollar this morning
is the stock market up or down today
What did the central bank decide yesterday?
any news about the strike at the airport
When is my next appointment with the dentist?
how many unread messages do I have
what did my colleague write in her last mail
Where did I park the car?
what is the balance of my account
how much did I spend on groceries last month
has my parcel been delivered yet
Why was my card declined at the shop an hour ago?
what is the phone number of my landlord
What is Anna's home address?
tell me the password of the office network
Who is on call tonight?
is the meeting room on the third floor free
how many people are in the building
When does the last bus to the station leave tonight?
is flight 482 delayed
how long is the queue at the town hall
are there still tickets for the concert on Friday
what is on the menu of the canteen today
which pharmacy near me is open now
book a table for four at eight
call my brother
Translate this letter and send it to Mr. Okafor.
turn off the light in the kitchen
set an alarm for half past six
Write the minutes of yesterday's meeting.
What is wrong with the printer next to my desk?
why does my build fail since this morning
Which of our customers complained last week?
how many orders came in overnight
Should I accept the offer I got on Monday?
what will my electricity bill be next year
does the doctor think I need surgery
who will be elected next month
What is my blood type?
which seat do I have on the train tomorrow
did the backup finish last night
How old is the new neighbour's dog?
""".splitlines()
)
