"""What `taskbell doctor` looks at: each check is a function that tells what it found."""
