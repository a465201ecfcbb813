# users.awk: users from, from + 1, ... below to, as the account has them: a JSON array, about 800 bytes each.
BEGIN {
	printf "["
	for (i = from; i < to; i++)
		printf "%s{\"id\":%.0f,\"deleted\":false,\"loginName\":\"user%06d@example.com\",\"fullName\":\"Full Name %d\"," \
			"\"nickname\":\"nick%d\",\"email\":\"user%06d@example.com\",\"isEnabled\":true,\"maxChats\":3," \
			"\"maxAsyncChats\":12,\"profileIds\":[1001,1002],\"skillIds\":[2001,2002,2003],\"lobIds\":[]," \
			"\"permissionGroups\":[1],\"memberOf\":{\"agentGroupId\":3%03d,\"assignmentDate\":\"2026-01-02 03:04:05\"}," \
			"\"managerOf\":[],\"changePwdNextLogin\":true,\"isApiUser\":false,\"userTypeId\":1," \
			"\"description\":\"Somebody who answers questions about orders, deliveries, bills and the weather\"," \
			"\"mobileNumber\":\"+49 170 1234567\",\"pictureUrl\":\"https://example.com/pictures/of/users/%06d.png\"," \
			"\"employeeId\":\"E%06d\",\"pid\":\"pid-%06d\",\"disabledManually\":false," \
			"\"lastPwdChangeDate\":\"2026-01-02 03:04:05\",\"dateUpdated\":\"2026-01-02 03:04:05\"}",
			(i > from ? "," : ""), 5000000001 + i, i, i, i, i, i % 1000, i, i, i
	printf "]"
}
